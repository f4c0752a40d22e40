package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// config is what the flags say.
type config struct {
	unilog, debezium, java string
	check, noWrongs        bool
	records, rounds        int
	document, only         string
}

// peers are those that can run here: as their documents say, and then tuned.
func (c config) peers() []peer {
	all := []peer{unilogPeer{c.unilog}, plainPeer{}, watermillPeer{}}
	if c.debezium != "" {
		all = append(all, debeziumPeer{dir: c.debezium, java: c.java})
	}
	all = append(all, plainPeer{tuned: true}, watermillPeer{tuned: true})
	if c.debezium != "" {
		all = append(all, debeziumPeer{dir: c.debezium, java: c.java, tuned: true})
	}
	if c.only == "" {
		return all
	}
	return slices.DeleteFunc(all, func(p peer) bool {
		return !slices.ContainsFunc(strings.Split(c.only, ","), func(begin string) bool { return begins(p, begin) })
	})
}

func begins(p peer, begin string) bool {
	return strings.HasPrefix(strings.ToLower(p.name()), strings.ToLower(begin))
}

// flaw is what the flags cannot mean.
func (c config) flaw() error {
	const fewest = 100 // of which Watermill gets ten
	switch {
	case c.unilog == "":
		return errors.New("--unilog is missing: say where the command unilog is")
	case c.records < fewest:
		return fmt.Errorf("--records must be at least %d", fewest)
	case c.rounds < 1:
		return errors.New("--rounds must be at least 1")
	}
	for _, begin := range strings.Split(c.only, ",") {
		if !slices.ContainsFunc(c.peers(), func(p peer) bool { return begins(p, begin) }) {
			return fmt.Errorf("--only: no peer's name begins with %q", begin)
		}
	}
	return nil
}

// untuned are those that wrongs are done to.
func (c config) untuned() []peer {
	return slices.DeleteFunc(c.peers(), func(p peer) bool { return strings.HasSuffix(p.name(), tunedSuffix(true)) })
}

// share is how many records a peer gets, of so many: what takes a slow one as long.
func share(p peer, records int) int {
	switch {
	case strings.HasPrefix(p.name(), "Watermill"):
		return records / 10
	case strings.HasPrefix(p.name(), "Debezium"):
		return records / 2
	}
	return records
}
