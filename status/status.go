package status

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/rocketrides/unilog"
)

// Status says where everything stands, as the database that records are staged
// in knows it. All of it but Log is read in one snapshot. Of several partitions,
// offsets are added up: what was numbered, published and applied in all of them.
type Status struct {
	LogID string `json:"log_id"`
	// Time is when it was read, by the database's clock.
	Time time.Time `json:"time"`
	// ReadOnly says that the database takes no writes: it is a standby, or the old primary
	// of a switchover, and need not know what goes on at the primary.
	ReadOnly bool `json:"read_only,omitempty"`
	// Unconfirmed commits wait for a synchronous standby, and the first of them for
	// UnconfirmedFor seconds.
	Unconfirmed    int     `json:"unconfirmed,omitempty"`
	UnconfirmedFor float64 `json:"unconfirmed_for,omitempty"`
	// Unlogged are tables of the log that a crash of Postgres would empty.
	Unlogged []string `json:"unlogged,omitempty"`
	// Leader is the session that leads the first partition, or nil. Epoch is that
	// partition's, too. Numberer is the session that leads where records are numbered, of
	// all partitions, or nil.
	Epoch    int64    `json:"epoch"`
	Leader   *Session `json:"leader"`
	Numberer *Session `json:"numberer"`
	// Staged records are not numbered yet; the oldest one waits for StagedFor
	// seconds.
	Staged    int64   `json:"staged"`
	StagedFor float64 `json:"staged_for"`
	// Passed are those of them whose ids had been passed when they were staged, and
	// NoOrder says why ids are in no order, if they are not.
	Passed  int64  `json:"passed,omitempty"`
	NoOrder string `json:"no_order,omitempty"`
	// Numbered and Published are the last offsets that were; First is the first
	// that the archive holds: the archive has Numbered-First+1 records.
	Numbered  int64 `json:"numbered"`
	Published int64 `json:"published"`
	First     int64 `json:"first"`
	// Trouble is the error by which the streamer's last attempt to publish
	// failed, and TroubledFor for how many seconds none has succeeded. It is
	// empty when the last one did. Of several partitions it is the oldest trouble.
	Trouble     string     `json:"trouble,omitempty"`
	TroubledFor float64    `json:"troubled_for,omitempty"`
	Consumers   []Consumer `json:"consumers"`
	// Old are the transactions that have been open for over a minute.
	Old []Session `json:"old_transactions"`
	// Hidden are tables whose rows somebody who is connected does not see.
	Hidden []Hidden `json:"hidden,omitempty"`
	// Log is the log's head, unless LogError says why it cannot be had.
	Log      unilog.Head `json:"log"`
	LogError string      `json:"log_error,omitempty"`
	asked    bool        // the log was, and so were its partitions
	// ReportsError says why the log does not say who reads it elsewhere.
	ReportsError string `json:"reports_error,omitempty"`

	seesSessions bool
	// Partitions are all that the log has, in their order.
	Partitions []Partition `json:"partitions"`

	// Command is the program whose subcommands [Status.Troubles] names: unilog, if
	// it is empty.
	Command string `json:"-"`
}

// Partition is the [Status] of one partition.
type Partition struct {
	Partition int `json:"partition"`
	// Active is false where no new records come.
	Active      bool        `json:"active"`
	Epoch       int64       `json:"epoch"`
	Leader      *Session    `json:"leader"`
	Numbered    int64       `json:"numbered"`
	Published   int64       `json:"published"`
	First       int64       `json:"first"`
	Trouble     string      `json:"trouble,omitempty"`
	TroubledFor float64     `json:"troubled_for,omitempty"`
	Log         unilog.Head `json:"log"`
	LogError    string      `json:"log_error,omitempty"`
}

// Session is a session of Postgres.
type Session struct {
	PID         int32  `json:"pid"`
	User        string `json:"user"`
	Application string `json:"application"`
	Address     string `json:"address"`
	// Seconds is how long it has led, or been in its transaction; 0 where the
	// reader may not know, who needs the role pg_read_all_stats. Where he may not see
	// pg_stat_activity, user and address are "unknown".
	Seconds float64 `json:"seconds"`
}

// Consumer says how far a consumer of this database has come, or one elsewhere.
type Consumer struct {
	Name string `json:"name"`
	// Elsewhere says that it keeps its checkpoints elsewhere, and reports through the log:
	// all that is said of it is true of its last report, Silent seconds ago. Its dead
	// letters and processes are not known.
	Elsewhere  bool  `json:"elsewhere,omitempty"`
	Checkpoint int64 `json:"checkpoint"`
	// Lag is in records, and LagSeconds is how long the next one waits for it,
	// or, of those that wait, the first that the archive still holds. Of several
	// partitions it is the longest time, and Slowest the partition.
	Lag        int64   `json:"lag"`
	LagSeconds float64 `json:"lag_seconds"`
	Slowest    int     `json:"slowest_partition"`
	// Silent is how many seconds ago it last showed that it is alive.
	Silent      float64 `json:"silent"`
	DeadLetters int64   `json:"dead_letters"`
	// Processes is how many run that share its partitions, 0 if that is not known.
	Processes int `json:"processes"`
	// Paused is nil unless a person has paused it.
	Paused *Pause `json:"paused,omitempty"`
	// Behind are the partitions that it has not applied to the end, or where it has halted.
	Behind []ConsumerPartition `json:"behind"`
	// Pace is set by [Status.Since], of a consumer that is far behind.
	Pace *Pace `json:"pace,omitempty"`
}

// Pause says for how long a consumer is paused, and by which user of Postgres.
type Pause struct {
	Seconds float64 `json:"seconds"`
	By      string  `json:"by"`
}

// ConsumerPartition is the [Consumer] of one partition.
type ConsumerPartition struct {
	Partition  int     `json:"partition"`
	Checkpoint int64   `json:"checkpoint"`
	Lag        int64   `json:"lag"`
	LagSeconds float64 `json:"lag_seconds"`
	Silent     float64 `json:"silent"`
	// Halted is nil unless it has halted there, until a person decides.
	Halted *Halt `json:"halted,omitempty"`
}

// Halt says why a consumer has halted in a partition.
type Halt struct {
	// Offset is that of the record that its handler, or its receiver, has rejected; 0 if no
	// record is to blame.
	Offset  int64   `json:"offset,omitempty"`
	Seconds float64 `json:"seconds"`
	Why     string  `json:"why"`
}

// slow is how many seconds a record may wait before that is worth mentioning.
const slow = 5

// Leaders is how many partitions a streamer leads.
func (s *Status) Leaders() (n int) {
	for i := range s.Partitions {
		if s.Partitions[i].Leader != nil {
			n++
		}
	}
	return n
}

// sum adds partitions up. Of an empty log, the first offset is 1.
func sum(partitions []Partition) Partition {
	all := partitions[0]
	for _, p := range partitions[1:] {
		all.Numbered += p.Numbered
		all.Published += p.Published
		all.First += p.First - 1
		all.Log.Offset += p.Log.Offset
		if all.Trouble == "" || p.TroubledFor > all.TroubledFor {
			all.Trouble, all.TroubledFor = p.Trouble, p.TroubledFor
		}
		if all.LogError == "" {
			all.LogError = p.LogError
		}
	}
	return all
}

// Troubles says in words what is stuck, and why. None is good news. Of several
// partitions it names those that are meant.
func (s *Status) Troubles() []string {
	if s.ReadOnly {
		return []string{"this database takes no writes, and need not know what goes on: connect to the primary"}
	}
	var out []string
	if s.UnconfirmedFor > slow {
		out = append(out, fmt.Sprintf("%d commits wait for a synchronous standby, the first for %.0f s: bring it back, see pg_stat_replication", s.Unconfirmed, s.UnconfirmedFor))
	}
	for _, table := range s.Unlogged {
		out = append(out, fmt.Sprintf("a crash of Postgres would empty %s, which is unlogged: ALTER TABLE it SET LOGGED", table))
	}
	out = slices.Concat(out, s.streamerTroubles(), s.hiddenTroubles(), s.logTroubles(), s.reportsTroubles())
	most := map[int]int64{} // by partition, the lag of who is furthest behind
	for _, c := range s.Consumers {
		if c.Elsewhere {
			continue // what is kept for it is up to the streamers
		}
		for _, p := range c.Behind {
			most[p.Partition] = max(most[p.Partition], p.Lag)
		}
	}
	for _, c := range s.Consumers {
		out = append(out, c.troubles(s, most)...)
	}
	for _, t := range s.Old {
		out = append(out, fmt.Sprintf("session %d (%s) has been in one transaction for %.0f s: "+
			"what it stages is numbered when it commits, and dead rows pile up meanwhile", t.PID, t.Application, t.Seconds))
	}
	return out
}

func (s *Status) command() string { return cmp.Or(s.Command, "unilog") }

func (s *Status) streamerTroubles() (out []string) {
	type state struct {
		trouble string
		led     bool
	}
	fine := state{led: true}
	for of, group := range grouped(s.Partitions, func(p *Partition) state { return state{p.Trouble, p.Leader != nil} }) {
		all := sum(group)
		waiting := all.Numbered - all.Published
		if all.Partition == 0 { // where a failure to number is noted, too
			waiting += s.Staged
		}
		in := where(s, group)
		switch {
		case of == fine:
		case of.led:
			out = append(out, in+fmt.Sprintf("the streamer has failed for %.0f s and %d records wait: %s", all.TroubledFor, waiting, of.trouble))
		case of.trouble != "":
			out = append(out, in+fmt.Sprintf("the streamer has failed for %.0f s and %d records wait; it tries again, if one is running: %s",
				all.TroubledFor, waiting, of.trouble))
		default:
			out = append(out, in+fmt.Sprintf("no streamer leads: %d records wait; start one with `%s streamer`", waiting, s.command()))
		}
	}
	if s.NoOrder != "" {
		out = append(out, s.NoOrder)
	}
	if s.Passed > 0 {
		out = append(out, fmt.Sprintf("%d staged records have ids that were passed: somebody writes ids of his own, or has set their sequence back", s.Passed))
	}
	if s.StagedFor > slow && s.Leaders() > 0 && s.Partitions[0].Trouble == "" {
		says := fmt.Sprintf("staged records wait for %.0f s to be numbered: ", s.StagedFor)
		if s.Numberer == nil {
			says += "no streamer does it; see what they log"
		} else {
			says += fmt.Sprintf("see what the streamer logs (session %d)", s.Numberer.PID)
		}
		out = append(out, says)
	}
	return out
}

// standing is how the log, or a consumer, stands to the database.
type standing int

const (
	isEven standing = iota
	isUnread
	isForeign
	isAhead
	isShort
	isSlow
	isPaused
	isSilent
)

func (s *Status) logTroubles() (out []string) {
	if !s.asked {
		if s.LogError != "" {
			out = append(out, "the log cannot be read: "+s.LogError)
		}
		return out
	}
	type state struct {
		standing
		err string
	}
	for of, group := range grouped(s.Partitions, func(p *Partition) state { return state{p.logStanding(s.LogID), p.LogError} }) {
		all, in := sum(group), where(s, group)
		switch of.standing {
		case isUnread:
			out = append(out, in+"the log cannot be read: "+of.err)
		case isForeign:
			out = append(out, in+"the stream belongs to another database: give each database a stream of its own")
		case isAhead:
			out = append(out, in+fmt.Sprintf("the log is at offset %d and the database only at %d: was it restored to an earlier time?", all.Log.Offset, all.Numbered))
		case isShort:
			out = append(out, in+fmt.Sprintf("the log has lost records: it is at offset %d of %d, and the streamer publishes them again", all.Log.Offset, all.Published))
		}
	}
	return out
}

func (p *Partition) logStanding(logID string) standing {
	switch {
	case p.LogError != "":
		return isUnread
	case p.Log.LogID != "" && p.Log.LogID != logID:
		return isForeign
	case p.Log.Offset > p.Numbered:
		return isAhead
	case p.Log.Offset < p.Published:
		return isShort
	}
	return isEven
}
