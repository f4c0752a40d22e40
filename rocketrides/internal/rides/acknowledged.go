package rides

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Acknowledgement is what a client knows of a ride whose booking was answered
// with 201: the distance that it asked for, its Idempotency-Key, and that the ride's
// transaction began after Sent and had committed before Answered.
type Acknowledgement struct {
	ID       int64       `json:"id"`
	Key      string      `json:"key"`
	Distance json.Number `json:"distance"`
	Sent     time.Time   `json:"sent"`
	Answered time.Time   `json:"answered"`
}

// acknowledge writes a line of JSON, at once, so that no kill loses it.
func (s *Simulator) acknowledge(a answer, distance, key string, sent, answered time.Time) {
	if s.cfg.Acknowledged == nil || a.err != nil || a.status != http.StatusCreated {
		return
	}
	ack := Acknowledgement{Key: key, Sent: sent, Answered: answered}
	err := json.Unmarshal([]byte(a.body), &ack)
	ack.Distance = json.Number(distance) // what was asked for, whatever the answer says
	var line []byte
	if err == nil {
		line, err = json.Marshal(ack)
	}
	if err == nil {
		_, err = s.cfg.Acknowledged.Write(append(line, '\n'))
	}
	if err != nil {
		s.tally.printf("An acknowledged ride could not be noted: %v", err)
	}
}

// ReadAcknowledgements reads what a simulator wrote. A last line that was cut
// off, as by a kill, is left out.
func ReadAcknowledgements(r io.Reader) ([]Acknowledgement, error) {
	var acks []Acknowledgement
	for d := json.NewDecoder(r); ; {
		var a Acknowledgement
		switch err := d.Decode(&a); err {
		case nil:
			acks = append(acks, a)
		case io.EOF, io.ErrUnexpectedEOF:
			return acks, nil
		default:
			return nil, fmt.Errorf("read acknowledged rides: %w", err)
		}
	}
}
