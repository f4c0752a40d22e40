package redislog_test

import (
	"bytes"
	"strconv"
	"strings"
	"testing"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/proxy"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/redislog"
)

// TestReadAsksForLittle sees what Redis sends for one read, which is what a process
// holds: of small entries that large ones follow, from before and within them, whether
// or not the leader's key tells of the large ones.
func TestReadAsksForLittle(t *testing.T) {
	t.Parallel()
	url := testenv.Redis(t).URL()
	f := open(t, url)
	term := unilog.Term{LogID: "a", Epoch: 1, Partitions: 1}
	if _, err := f.log.Claim(t.Context(), term); err != nil {
		t.Fatal(err)
	}
	append := func(first, last int64, size int) {
		t.Helper()
		for ; first <= last; first++ {
			e := entry(first)
			e.Key = strings.Repeat("k", size)
			if err := f.append(e); err != nil {
				t.Fatal(err)
			}
		}
	}
	sent := func() int64 {
		t.Helper()
		info, err := f.command("INFO", "stats").ToString()
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(info, "total_net_output_bytes:")
		number, _, _ := strings.Cut(rest, "\r\n")
		n, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	const size = 1_000_000
	append(1, 400, 10)
	append(401, 440, size)
	append(441, 500, 10)
	for _, known := range []string{"told by the leader", "known from before", "unknown"} {
		if known == "unknown" {
			f.command("HDEL", "{"+f.stream+"}:leader", "large")
			forgetful, err := redislog.Open(t.Context(), testenv.PatientRedis(url), f.stream)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(forgetful.Close)
			f.log = forgetful
		}
		for _, after := range []int64{0, 200, 395, 400, 430, 440} {
			before := sent()
			read, err := f.log.Read(t.Context(), 0, unilog.Cursor{Offset: after}, 1000, 0)
			if err != nil || len(read) == 0 {
				t.Fatal(len(read), err)
			}
			if n := sent() - before; n > 2*unilog.ReadBytes+1<<16 {
				t.Errorf("%s: for %d entries after %d Redis sends %d bytes", known, len(read), after, n)
			}
			if last := read[len(read)-1].Offset; last != 500 && last-400 < 4 {
				t.Errorf("%s: a read after %d ends at %d", known, after, last)
			}
		}
	}
}

// TestReadAsksSeldom reads a log of small entries, and counts what Redis is asked.
func TestReadAsksSeldom(t *testing.T) {
	t.Parallel()
	f := open(t, testenv.Redis(t).URL())
	term := unilog.Term{LogID: "a", Epoch: 1, Partitions: 1}
	if _, err := f.log.Claim(t.Context(), term); err != nil {
		t.Fatal(err)
	}
	const limit, reads = 1000, 10
	var all []unilog.Entry
	for offset := int64(1); offset <= limit*reads; offset++ {
		all = append(all, entry(offset))
	}
	if err := f.append(all...); err != nil {
		t.Fatal(err)
	}
	f.command("CONFIG", "RESETSTAT")
	for after := int64(0); after < limit*reads; after += limit {
		if read, err := f.log.Read(t.Context(), 0, unilog.Cursor{Offset: after}, limit, 0); err != nil || len(read) != limit {
			t.Fatal(len(read), err)
		}
	}
	info, err := f.command("INFO", "commandstats").ToString()
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	for _, name := range []string{"xread", "evalsha"} {
		_, rest, _ := strings.Cut(info, "cmdstat_"+name+":calls=")
		number, _, _ := strings.Cut(rest, ",")
		n, err := strconv.Atoi(number)
		if err != nil {
			t.Fatalf("%s: %v of %s", name, err, info)
		}
		asked += n
	}
	// A page of each read; the first one begins with a small page and a look.
	if asked != reads+2 {
		t.Errorf("%d reads asked Redis %d times", reads, asked)
	}
}

// TestReadStopsWhereItHasLooked has large entries come in between a reader's look at
// the log and the page that it asks for then.
func TestReadStopsWhereItHasLooked(t *testing.T) {
	t.Parallel()
	f := setup(t)
	if _, err := f.log.Claim(t.Context(), unilog.Term{LogID: "a", Epoch: 1, Partitions: 1}); err != nil {
		t.Fatal(err)
	}
	const small, all = 30, 33
	for offset := int64(1); offset <= small; offset++ {
		if err := f.append(entry(offset)); err != nil {
			t.Fatal(err)
		}
	}
	between, err := proxy.For(testenv.SharedRedis(t))
	if err != nil {
		t.Fatal(err)
	}
	defer between.Close()
	reader, err := redislog.Open(t.Context(), testenv.PatientRedis(between.URL()), f.stream)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	looked := false
	var failed error
	between.CutAt(proxy.ToServer, func(chunk []byte) bool {
		switch {
		case bytes.Contains(chunk, []byte("EVALSHA")):
			looked = true
		case looked && bytes.Contains(chunk, []byte("XREAD")):
			looked = false
			for offset := int64(small + 1); offset <= all && failed == nil; offset++ {
				large := entry(offset)
				large.Key = strings.Repeat("k", 100_000)
				failed = f.append(large)
			}
		}
		return false
	})
	read, err := reader.Read(t.Context(), 0, unilog.Cursor{}, 1000, 0)
	if err != nil || failed != nil || len(read) != small {
		t.Errorf("it reads %d entries of %d that were there, and says %v, %v", len(read), small, err, failed)
	}
	if read, err = reader.Read(t.Context(), 0, unilog.Cursor{Offset: small}, 1000, 0); err != nil || len(read) != all-small {
		t.Errorf("then it reads %d entries of %d, and says %v", len(read), all-small, err)
	}
}
