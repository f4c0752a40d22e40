package cli

import (
	"errors"
	"fmt"
	"testing"

	"github.com/rocketrides/unilog"
)

// TestVerdictNamesTheProgramOnce also where packages name themselves in their errors.
func TestVerdictNamesTheProgramOnce(t *testing.T) {
	t.Parallel()
	p := &Program{Name: "unilog"}
	for want, err := range map[string]error{
		"unilog: another streamer leads":                                          unilog.ErrStandby,
		"unilog: read: another streamer leads":                                    fmt.Errorf("read: %w", unilog.ErrStandby),
		"unilog: check REDIS_URL: Redis is version 4":                             fmt.Errorf("check REDIS_URL: %w", errors.New("redislog: Redis is version 4")),
		"unilog: undo the move: there is none":                                    errors.New("switchlog: undo the move: switchlog: kafkalog: there is none"),
		"unilog: but in unilog: run `unilog migrate`":                             errors.New("but in unilog: run `unilog migrate`"),
		"unilog: write 'x: unilogs: y', or it is 'unilog' (redislog: it was not)": errors.New("write 'x: unilogs: y', or it is 'unilog' (redislog: it was not)"),
	} {
		if _, line := p.Verdict(err); line != want {
			t.Errorf("of %q a person reads\n%s\nwant\n%s", err, line, want)
		}
	}
}
