package dashboard

import (
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// action is what a viewer asks `up` to do. A rate and a share of failures are
// values; the other actions have a target.
type action struct {
	Action string   `json:"action"`
	Target string   `json:"target,omitempty"`
	Value  *float64 `json:"value,omitempty"`
}

var actions = []string{
	"write", "kill", "freeze", "thaw", "empty-redis", "cut-redis", "mend-redis", "add-consumer", "remove-consumer", "rate", "failures",
}

const (
	tokenHeader = "X-Dashboard-Token"
	// bodyMost bounds an action, in bytes.
	bodyMost = 4 << 10
)

// act passes an action on to `up`, if it comes from this dashboard's page: only
// that can read the token, and a browser tells where a request comes from.
func (d *Dashboard) act(w http.ResponseWriter, r *http.Request) {
	if err := new(http.CrossOriginProtection).Check(r); err != nil {
		refuse(w, http.StatusForbidden, "actions are for this dashboard's own page")
		return
	}
	if subtle.ConstantTimeCompare([]byte(r.Header.Get(tokenHeader)), []byte(d.token)) != 1 {
		refuse(w, http.StatusForbidden, tokenHeader+" is not this dashboard's: load the page again")
		return
	}
	var a action
	body := json.NewDecoder(http.MaxBytesReader(w, r.Body, bodyMost))
	body.DisallowUnknownFields()
	if err := body.Decode(&a); err != nil {
		refuse(w, http.StatusBadRequest, `the body is not {"action":"…","target":"…","value":n} of at most 4 KiB`)
		return
	}
	if !slices.Contains(actions, a.Action) {
		refuse(w, http.StatusUnprocessableEntity, fmt.Sprintf("no such action: there are %s", strings.Join(actions, ", ")))
		return
	}
	status, why, err := d.control.act(r.Context(), a)
	switch {
	case err != nil:
		refuse(w, http.StatusBadGateway, "up does not answer: "+short(err.Error()))
	case status != http.StatusNoContent:
		refuse(w, status, why)
	default:
		d.cfg.Logger.Info("action", "action", a.Action, "target", a.Target)
		w.WriteHeader(status)
	}
}

// refuse answers with one line that says why.
func refuse(w http.ResponseWriter, status int, why string) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(encode(map[string]string{"error": why}), '\n'))
}
