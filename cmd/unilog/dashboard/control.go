package dashboard

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

const (
	// controlPause is the time between attempts to reach `up`.
	controlPause = time.Second
	// actionTimeout bounds what an action may take.
	actionTimeout = 10 * time.Second
	// lineMost bounds one line of what `up` tells, in bytes.
	lineMost = 1 << 20
)

// control is the other end of the socket of `up`.
type control struct {
	client *http.Client
	actFor time.Duration // actionTimeout, but for tests
}

func newControl(socket string) *control {
	return &control{actFor: actionTimeout, client: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}}
}

// follow passes on what `up` tells, until ctx ends.
func (d *Dashboard) follow(ctx context.Context) {
	defer d.control.client.CloseIdleConnections()
	for ctx.Err() == nil {
		err := d.control.listen(ctx, func(h heard) {
			if h.System != nil {
				d.hub.runs(h.System)
				return
			}
			select {
			case d.heard <- h:
			case <-ctx.Done():
			}
		})
		if ctx.Err() == nil {
			d.cfg.Logger.Debug("up cannot be heard: trying again", "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(controlPause):
		}
	}
}

// listen tells what comes until the connection ends.
func (c *control) listen(ctx context.Context, tell func(heard)) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://up/events", nil)
	if err != nil {
		return err
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("up answers %s", resp.Status)
	}
	tell(heard{connected: true})
	defer tell(heard{ended: true})
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, lineMost)
	for lines.Scan() {
		var h heard
		if err := json.Unmarshal(lines.Bytes(), &h); err != nil {
			return fmt.Errorf("what up tells is not JSON: %w", err)
		}
		tell(h)
	}
	return lines.Err()
}

// act passes an action on, and returns the answer's status and, if it was
// refused, why.
func (c *control) act(ctx context.Context, a action) (status int, why string, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.actFor)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://up/actions", bytes.NewReader(encode(a)))
	if err != nil {
		return 0, "", err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNoContent {
		return resp.StatusCode, "", nil
	}
	var refusal struct {
		Error string `json:"error"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, lineMost)).Decode(&refusal); err != nil || resp.StatusCode < 400 {
		return 0, "", fmt.Errorf("up answers %s", resp.Status)
	}
	return resp.StatusCode, short(refusal.Error), nil
}
