package up

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rocketrides/unilog/internal/await"
)

// TestLimit sees that what is said too often is counted and not passed on, and
// that it keeps nothing else from being heard.
func TestLimit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEvents(func() state { return state{} })
		c := e.subscribe()
		<-c
		for range 3 * samePerSecond {
			e.logged("p", &record{msg: "often", members: []byte("{}")})
		}
		e.logged("p", &record{msg: "once", members: []byte(`{"n":1}`)})
		time.Sleep(time.Second)
		e.logged("p", &record{msg: "often", members: []byte("{}")})
		e.close()
		var got []logEvent
		for line := range c {
			var event struct{ Log logEvent }
			if err := json.Unmarshal(line, &event); err != nil {
				t.Fatal(err)
			}
			got = append(got, event.Log)
		}
		if len(got) != samePerSecond+2 {
			t.Fatalf("heard %d", len(got))
		}
		once, again := got[samePerSecond], got[samePerSecond+1]
		if once.Msg != "once" || once.Dropped != 2*samePerSecond || string(once.Attrs) != `{"n":1}` || again.Msg != "often" || again.Dropped != 0 {
			t.Errorf("heard %+v, then %+v", once, again)
		}
	})
}

// subscribed is events that are served, with its address.
func subscribed(t *testing.T) (*events, string) {
	t.Helper()
	e := newEvents(func() state { return state{} })
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { serveEvents(w, r, e) }))
	t.Cleanup(server.Close)
	t.Cleanup(e.close)
	return e, server.URL
}

func (e *events) count() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.subscribers)
}

func subscribe(t *testing.T, url string) *http.Response {
	t.Helper()
	answer, err := (&http.Client{Timeout: await.Patience, Transport: &http.Transport{DisableKeepAlives: true}}).Get(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = answer.Body.Close() })
	return answer
}

// TestSubscriberLeaves sees that one who leaves is forgotten, although nothing
// happens that he could be told.
func TestSubscriberLeaves(t *testing.T) {
	t.Parallel()
	e, url := subscribed(t)
	_ = subscribe(t, url).Body.Close()
	await.Equal(t, "the subscribers", 0, e.count)
}

// TestSlowSubscriber sees that one who does not read is dropped, and that nobody
// waits for him.
func TestSlowSubscriber(t *testing.T) {
	t.Parallel()
	e, url := subscribed(t)
	slow, quick := subscribe(t, url), bufio.NewReader(subscribe(t, url).Body)
	await.Equal(t, "the subscribers", 2, e.count)
	pad := []byte(fmt.Sprintf(`{"pad":"%01000d"}`, 0))
	said := 0
	say := func() {
		said++
		e.logged("p", &record{msg: fmt.Sprintf("m%d", said), members: pad})
	}
	// The slow one never reads: the network takes so much for it, then the backlog.
	await.True(t, "the slow one to be dropped", func() bool {
		for range backlog / 2 {
			say()
		}
		for last := fmt.Sprintf(`"msg":"m%d"`, said); ; {
			line, err := quick.ReadString('\n')
			if err != nil {
				t.Fatalf("who reads has not heard all: %v", err)
			}
			if strings.Contains(line, last) {
				return e.count() == 1
			}
		}
	})
	say()
	rest, _ := io.ReadAll(slow.Body) // it ends while the other one goes on
	if !strings.Contains(string(rest), `"msg":"m1"`) || strings.Contains(string(rest), fmt.Sprintf(`"msg":"m%d"`, said)) {
		t.Error("who does not read was waited for")
	}
}
