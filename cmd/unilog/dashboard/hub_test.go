package dashboard

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"testing"
)

func TestViewersSeeTheSame(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.run("c")
	d := s.serve()
	s.load()
	a, b := d.view(), d.view()
	next := func(v *watching) string {
		_, data, err := v.read()
		s.must(err)
		return string(data)
	}
	first := next(b)
	for next(a) != first { // it came earlier
	}
	for range 8 {
		if x, y := next(a), next(b); x != y {
			t.Fatalf("one viewer got %s, and the other %s", x, y)
		}
	}
}

func TestSlowViewerIsDropped(t *testing.T) {
	t.Parallel()
	d := newSite(t).serve()
	quick := d.view()
	slow, err := net.Dial("tcp", strings.TrimPrefix(d.url, "http://"))
	d.must(err)
	defer slow.Close()
	_, err = fmt.Fprintf(slow, "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
	d.must(err)
	viewers := func() int {
		d.hub.mu.Lock()
		defer d.hub.mu.Unlock()
		return len(d.hub.viewers)
	}
	for viewers() < 2 {
		until(quick, "sample", anything[sample])
	}
	// The slow one never reads: the network takes so much for it, then the queue.
	large := string(bytes.Repeat([]byte("x"), 256<<10))
	last := int64(0)
	if notes := quick.hello.Notes; len(notes) > 0 {
		last = notes[len(notes)-1].ID
	}
	for viewers() == 2 {
		d.hub.note(note{Text: large})
		until(quick, "note", func(n note) bool {
			if last++; n.ID != last {
				t.Fatalf("note %d came instead of %d", n.ID, last)
			}
			return n.Text == large
		})
	}
	until(quick, "sample", anything[sample])
	if h := d.view().hello; len(h.History) == 0 || len(h.Notes) == 0 {
		t.Errorf("who comes again gets %d samples and %d notes", len(h.History), len(h.Notes))
	}
}

// The queue decides, not the network.
func TestViewerWithAFullQueueIsDropped(t *testing.T) {
	t.Parallel()
	b := newHub()
	v, err := b.join(hello{})
	if err != nil {
		t.Fatal(err)
	}
	for range queueMost - 1 { // hello is there already
		b.note(note{})
	}
	select {
	case <-v.gone:
		t.Error("it was dropped with room in its queue")
	default:
	}
	b.note(note{})
	select {
	case <-v.gone:
	default:
		t.Error("it was not dropped")
	}
	if b.watched() {
		t.Error("it is still there")
	}
}

func TestWhatIsRememberedIsBounded(t *testing.T) {
	t.Parallel()
	b := newHub()
	for i := range int64(2000) {
		b.sample(&sample{Time: 1000*1_800_000 + 250*i})
		b.note(note{Text: "n"})
	}
	if len(b.history) != 300 || len(b.notes) != notesMost || b.notes[0].ID != 1901 || b.notes[99].ID != 2000 {
		t.Errorf("%d samples and %d notes from %d", len(b.history), len(b.notes), b.notes[0].ID)
	}
	if len(b.marks) != 0 {
		t.Errorf("marks of what is no failure: %+v", b.marks)
	}
	for range viewersMost {
		if _, err := b.join(hello{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.join(hello{}); err != errTooMany {
		t.Errorf("one viewer more: %v", err)
	}
}

// Notes are kept for seconds where much fails, and marks for as long as the plots go back.
func TestMarksCoverTheWholeHistory(t *testing.T) {
	t.Parallel()
	b := newHub()
	const began, seconds = int64(1_800_000_000_000), 400
	for i := range int64(seconds) {
		at := began + 1000*i
		for _, n := range []note{
			{Time: at + 100, Kind: "simulated", Source: "consumer0"},
			{Time: at + 300, Kind: "refused", Source: "streamer"},
			{Time: at + 200, Kind: "refused", Source: "consumer0"}, // of what it had applied
			{Time: at - 400, Kind: "halted", Source: "consumer1"},  // of the second before
			{Time: at + 400, Kind: "leader", Source: "streamer"},
		} {
			b.note(n)
		}
	}
	v, err := b.join(hello{})
	if err != nil {
		t.Fatal(err)
	}
	_, data, _ := strings.Cut(string(<-v.queue), "data: ")
	var h hello
	if err := json.Unmarshal([]byte(data), &h); err != nil {
		t.Fatal(err)
	}
	if len(h.Notes) != notesMost || len(h.Marks) != 300 {
		t.Fatalf("a new viewer gets %d notes and %d marks", len(h.Notes), len(h.Marks))
	}
	for i, m := range h.Marks {
		second := began/1000 + seconds - 300 + int64(i)
		want := mark{Time: m.Time, Hard: m.Time/1000 != began/1000+seconds-1, Soft: true, Failed: 2}
		if m.Time/1000 != second || m != want {
			t.Fatalf("mark %d is %+v, want %+v in second %d", i, m, want, second)
		}
	}
	b.note(note{Time: began + 1000*seconds, Kind: "killed", Source: "api"})
	if e := string(<-v.queue); !strings.Contains(e, `"mark":{"t":1800000400000,"hard":true,"soft":false,"failed":1}`) {
		t.Errorf("the note that comes is %s", e)
	}
}

func TestLatencies(t *testing.T) {
	t.Parallel()
	var l latencies
	take := func(at, checkpoint int64, ms float64) *sample {
		s := &sample{Time: at, Consumers: []consumerFigure{{Name: "c", Checkpoint: checkpoint, Latency: &ms}, {Name: "idle", Latency: &ms}}}
		l.take(s)
		return s
	}
	if s := take(0, 7, 1); s.Latency != nil || s.Consumers[0].Latency != nil {
		t.Errorf("measured at the first look: %+v", s)
	}
	for i := range int64(100) {
		take(i+1, i+8, float64(i+1))
	}
	s := take(101, 107, 1e6) // it has not moved
	if *s.Latency != (latencyFigure{P50: 50, P99: 99}) || *s.Consumers[0].Latency != 100 || s.Consumers[1].Latency != nil {
		t.Errorf("of 1 to 100 ms, it says %+v, %+v", s.Latency, s.Consumers)
	}
	if s := take(100+latencyWindow.Milliseconds(), 107, 1); s.Latency != nil || s.Consumers[0].Latency != nil {
		t.Errorf("10 s later it says %+v", s.Latency)
	}
	for i := range int64(10_000) {
		take(1_000_000, 200+i, 1)
	}
	if len(l.window) > latencyMost+1 {
		t.Errorf("it remembers %d", len(l.window))
	}
}
