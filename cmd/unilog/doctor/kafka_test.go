package doctor

import (
	"strings"
	"testing"

	"github.com/rocketrides/unilog/kafkalog"
)

// What the settings of a topic are, TestKafkaClaimRefusesRetention sees.
func TestTopicSettings(t *testing.T) {
	t.Parallel()
	if found := judgeKafka(nil); len(found) != 1 || found[0].Level != Advice {
		t.Errorf("of settings that cannot be seen: %+v", found)
	}
	for _, c := range []struct {
		setting kafkalog.Setting
		level   Level
		change  string
	}{
		{kafkalog.Setting{Of: "the topic's", Name: "retention.ms", Value: "-1", Want: "-1"}, OK, ""},
		{kafkalog.Setting{Of: "the topic's", Name: "retention.ms", Value: "1000", Want: "-1"}, Unsafe, "set it to -1"},
		{kafkalog.Setting{Of: "the topic's", Name: "cleanup.policy", Value: "compact,delete", Want: "delete"}, Unsafe, "set it to delete"},
		{kafkalog.Setting{Of: "the topic's", Name: "max.message.bytes", Value: "1048588", Want: "4259840", Limit: true}, Unsafe, "set it to 4259840 or more"},
		{kafkalog.Setting{Of: "the topic's", Name: "max.message.bytes", Value: "5000000", Want: "4259840", Limit: true}, OK, ""},
	} {
		f := judgeKafka([]kafkalog.Setting{c.setting})[0]
		if want(t, f, c.level); f.Change != c.change || !strings.Contains(f.Found, c.setting.Name+" is "+c.setting.Value) {
			t.Errorf("%+v", f)
		}
	}
}
