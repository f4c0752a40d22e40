package up

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"
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

// TestSubscriberLeaves sees that one who leaves is forgotten, although nothing
// happens that he could be told.
func TestSubscriberLeaves(t *testing.T) {
	t.Parallel()
	e := newEvents(func() state { return state{} })
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { serveEvents(w, r, e) }))
	defer server.Close()
	answer, err := http.Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	subscribers := func() int {
		e.mu.Lock()
		defer e.mu.Unlock()
		return len(e.subscribers)
	}
	defer e.close()
	for subscribers() > 0 {
		select {
		case <-t.Context().Done():
			t.Fatal("he is still subscribed")
		case <-time.After(time.Millisecond):
		}
	}
}
