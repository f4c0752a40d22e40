package kafkalog

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// fetchesByID is the first version of Fetch that names topics by their ids, by which a
// topic that was deleted and made again is known. Kafka has it since 3.1.
const fetchesByID = 13

// checkVersion returns an error if the broker that answers first is too old.
func (l *Log) checkVersion(ctx context.Context) error {
	resp, err := kmsg.NewPtrApiVersionsRequest().RequestWith(ctx, l.client)
	if err != nil {
		return fmt.Errorf("kafkalog: Kafka does not say what it can do: %w", err)
	}
	return judgeVersion(resp)
}

func judgeVersion(resp *kmsg.ApiVersionsResponse) error {
	fetch := kmsg.NewFetchRequest()
	for _, can := range resp.ApiKeys {
		if can.ApiKey == fetch.Key() && can.MaxVersion < fetchesByID {
			return fmt.Errorf("kafkalog: Kafka is a version before 3.1 (Fetch %d, not %d), and 3.1 or later is needed: upgrade it, or connect to another one", can.MaxVersion, fetchesByID)
		}
	}
	return nil
}
