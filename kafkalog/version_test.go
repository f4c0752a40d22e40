package kafkalog

import (
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestOldKafkaIsNamed(t *testing.T) {
	t.Parallel()
	for version, old := range map[int16]bool{12: true, 13: false, 18: false} {
		resp := kmsg.NewPtrApiVersionsResponse()
		resp.ApiKeys = []kmsg.ApiVersionsResponseApiKey{{ApiKey: int16(kmsg.Fetch), MaxVersion: version}}
		err := judgeVersion(resp)
		if (err != nil) != old || old && !strings.Contains(err.Error(), "3.1 or later is needed") {
			t.Errorf("Fetch %d: %v", version, err)
		}
	}
}
