package main

import (
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
		return !slices.ContainsFunc(strings.Split(c.only, ","), func(begin string) bool {
			return strings.HasPrefix(strings.ToLower(p.name()), strings.ToLower(begin))
		})
	})
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
