package doctor

import (
	"context"
	"errors"

	"github.com/rocketrides/unilog/kafkalog"
)

// examineKafka looks at the topic's settings.
func examineKafka(ctx context.Context, log *kafkalog.Log) ([]Finding, error) {
	settings, err := log.Settings(ctx)
	if err != nil {
		return nil, err
	}
	return judgeKafka(settings), nil
}

func judgeKafka(settings []kafkalog.Setting) (findings []Finding) {
	if len(settings) == 0 {
		return []Finding{unseen("topic", "the topic's settings", errors.New("the topic is not there, or this user may not describe them"),
			whyRetention, "allow DescribeConfigs on the topic to this user", Streamer)}
	}
	for _, s := range settings {
		level, why, change := OK, whyRetention, "set it to "+s.Want
		if s.Limit {
			why, change = whyLimit, change+" or more"
		}
		if !s.OK() {
			level = Unsafe
		}
		findings = append(findings, about(s.Name, level, s.String(), why, change, Streamer))
	}
	return findings
}

const (
	whyRetention = "if Kafka drops entries that nobody has trimmed, readers elsewhere may miss them, and they are published again and again"
	whyLimit     = "the largest record must fit, or else it stops its partition"
)
