package kafkalog_test

import (
	"strings"
	"testing"

	"github.com/rocketrides/unilog"
)

func (f *fixture) append(epoch int64, entries ...unilog.Entry) {
	f.Helper()
	_, err := f.log.Append(f.Context(), term(epoch), entries)
	f.must(err)
}

func (f *fixture) read(after unilog.Cursor, limit int) []unilog.Entry {
	f.Helper()
	read, err := f.log.Read(f.Context(), 0, after, limit, 0)
	f.must(err)
	return read
}

func TestKafkaReadIsBoundedInBytes(t *testing.T) {
	t.Parallel()
	f := setup(t)
	const size = 32 << 10
	for first := int64(1); first <= 300; first += 30 {
		batch := entries(first, first+29)
		for i := range batch {
			batch[i].Key = strings.Repeat("k", size)
		}
		f.append(1, batch...)
	}
	read := f.read(unilog.Cursor{}, 1000)
	const limit = 4 << 20
	if n := len(read) * size; n < limit/2 || n > limit+size {
		t.Errorf("it read %d entries, %d bytes, want about %d bytes", len(read), n, limit)
	}
}

// TestKafkaPositionsOfAnotherTopic reads on at cursors of a topic that was made anew
// with fewer entries: the same offsets have other positions there.
func TestKafkaPositionsOfAnotherTopic(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.append(1, entries(1, 200)...)
	before := f.read(unilog.Cursor{}, 200)
	f.wipe()
	f.must(f.log.Reset(t.Context(), term(1), 49))
	f.append(1, entries(50, 220)...)
	for _, log := range []unilog.Log{f.log, f.another()} { // one that has read before, and one that has not
		for _, i := range []int{0, 48, 99, 170, 199} {
			at := unilog.Cursor{Offset: before[i].Offset, Position: before[i].Position}
			read, err := log.Read(t.Context(), 0, at, 1, 0)
			f.must(err)
			if want := max(50, at.Offset+1); len(read) != 1 || read[0].Offset != want {
				t.Errorf("after %d it reads %v, want %d", at.Offset, read, want)
			}
		}
	}
}

// TestKafkaReadAfterALossWhileReading has a reader in the middle of a topic that is
// made anew with its entries elsewhere.
func TestKafkaReadAfterALossWhileReading(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.append(1, entries(1, 100)...)
	last := f.read(unilog.Cursor{}, 100)[99]
	f.wipe()
	f.must(f.log.Reset(t.Context(), term(1), 90))
	f.append(1, entries(91, 300)...)
	read := f.read(unilog.Cursor{Offset: last.Offset, Position: last.Position}, 10)
	if len(read) != 10 || read[0].Offset != 101 {
		t.Errorf("it goes on with %v", read)
	}
}

// TestKafkaLookAtTheHeadWhileReading has a reader in the middle of a topic that is made
// anew with its entries elsewhere, and lets it look at the head of the new one.
func TestKafkaLookAtTheHeadWhileReading(t *testing.T) {
	t.Parallel()
	for _, looks := range []bool{false, true} {
		f := setup(t)
		for offset := int64(1); offset <= 30; offset++ { // each with the end of a transaction after it
			f.append(1, entry(offset))
		}
		reader := f.another()
		var at unilog.Cursor
		for at.Offset < 30 {
			read, err := reader.Read(t.Context(), 0, at, 1000, 0)
			f.must(err)
			at = read[len(read)-1].Cursor()
		}
		f.wipe()
		f.append(1, entries(1, 90)...)
		if looks {
			head, err := reader.Head(t.Context(), 0)
			if err != nil || head.Offset != 90 {
				t.Fatalf("head %+v, %v", head, err)
			}
		}
		read, err := reader.Read(t.Context(), 0, at, 10, 0)
		if err != nil || len(read) != 10 || read[0].Offset != 31 {
			t.Errorf("with a look at the head %v: it goes on with %v and says %v", looks, read, err)
		}
	}
}
