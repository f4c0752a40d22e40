package streamer_test

import (
	"testing"
	"time"

	"github.com/rocketrides/unilog/internal/loop"
	"github.com/rocketrides/unilog/internal/testenv"
)

func TestMain(m *testing.M) {
	loop.FarewellTimeout = time.Second // dozens of streamers here are cut off for good
	testenv.Main(m)
}
