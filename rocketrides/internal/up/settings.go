package up

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
)

// SettingsVariable names, in a process's environment, the file that its
// [Settings] are in.
const SettingsVariable = "ROCKETRIDES_SETTINGS"

// Settings are what processes follow while they run. They win over flags.
type Settings struct {
	Rate     float64 `json:"rate"`     // of the simulator, in rides a second
	Failures float64 `json:"failures"` // the share of batches that fail on purpose
}

// ReadSettings reads the file that [SettingsVariable] names. It is always whole.
func ReadSettings(path string) (Settings, error) {
	var s Settings
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	if err != nil {
		return s, fmt.Errorf("read the settings that %s names: %w", SettingsVariable, err)
	}
	return s, nil
}

func (d *dataDir) settings() string { return d.server("settings.json") }

// writeSettings puts a new file into the place of the old one.
func (d *dataDir) writeSettings(s Settings) error {
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(d.path, "settings-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(append(text, '\n'))
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), d.settings())
}
