package dashboard

import "encoding/json"

// What a page is told, see the package's comment. Times are Unix milliseconds,
// amounts are decimals as text.

// sample is where everything stands at one instant.
type sample struct {
	Time int64 `json:"t"`
	// Postgres and Redis say why a server cannot be read. Its figures are then
	// those of the last reading.
	Postgres string `json:"postgres"`
	// Engine names what holds the log.
	Engine    string  `json:"engine"`
	Redis     string  `json:"redis"`
	Staged    int64   `json:"staged"`
	MoreAre   bool    `json:"staged_more"` // more than Staged are staged
	StagedFor float64 `json:"staged_for"`
	Numbered  int64   `json:"numbered"`
	Published int64   `json:"published"`
	// Head is the log's, and null if it has never been read.
	Head  *int64 `json:"head"`
	First int64  `json:"first"`
	Epoch int64  `json:"epoch"`
	// Partitions are how many the log has, and Leaders how many have a leader.
	Partitions int `json:"partitions"`
	Leaders    int `json:"leaders"`
	// Leader leads the first one; it is null unless each has one.
	Leader    *leader          `json:"leader"`
	Consumers []consumerFigure `json:"consumers"`
	Latency   *latencyFigure   `json:"latency"`
}

type leader struct {
	PID         int32   `json:"pid"`
	Application string  `json:"application"`
	Seconds     float64 `json:"seconds"`
}

type consumerFigure struct {
	Name        string  `json:"name"`
	Elsewhere   bool    `json:"elsewhere"` // it reports through the log
	Checkpoint  int64   `json:"checkpoint"`
	Lag         int64   `json:"lag"`
	LagSeconds  float64 `json:"lag_seconds"`
	Silent      float64 `json:"silent"`
	DeadLetters int64   `json:"dead_letters"`
	// Paused is who has paused it. Halted is a predicate that says where it has halted, and
	// Why says why. They are empty if it is not so.
	Paused string `json:"paused"`
	Halted string `json:"halted"`
	Why    string `json:"why"`
	// Latency is how long the record at the checkpoint took from its staging. It is
	// null if the checkpoint has not moved for a while.
	Latency *float64 `json:"latency_ms"`
	// Pace says when one that is far behind has caught up.
	Pace string `json:"pace"`
}

// latencyFigure sums up all consumers' latencies of the last seconds, in
// milliseconds.
type latencyFigure struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
}

// auditFigure is the audit's last result.
type auditFigure struct {
	Time     int64     `json:"t"`
	Truth    string    `json:"truth"`
	Count    *int64    `json:"count"` // null if it is not known
	Balances []balance `json:"balances"`
	Agrees   bool      `json:"agrees"`
	Since    int64     `json:"since"` // Agrees has been so
	Checks   int64     `json:"checks"`
	// Error says why the last attempt could not look; the rest is from before.
	Error string `json:"error"`
}

type balance struct {
	Consumer   string `json:"consumer"`
	Total      string `json:"total"`
	Ahead      string `json:"ahead"`
	Staged     string `json:"staged"`
	Parked     string `json:"parked"`
	Difference string `json:"difference"`
	Agrees     bool   `json:"agrees"`
}

// note tells of something that happened, in a whole sentence.
type note struct {
	ID     int64  `json:"id"`
	Time   int64  `json:"t"`
	Kind   string `json:"kind"`
	Source string `json:"source"`
	Text   string `json:"text"`
	// Failed says that it tells of a failure: a double send follows one.
	Failed bool `json:"failed,omitempty"`
	// Mark is that of its second, with all that is known of it by now. Only a new note
	// has one.
	Mark *mark `json:"mark,omitempty"`
}

// mark says of a second in which something went wrong what did.
type mark struct {
	Time   int64 `json:"t"`
	Hard   bool  `json:"hard"`   // something was killed, frozen or lost
	Soft   bool  `json:"soft"`   // a failure was simulated, or a double send refused
	Failed int   `json:"failed"` // so many notes tell of failures
}

// hello is what a page gets first.
type hello struct {
	Version string            `json:"version"`
	Now     int64             `json:"now"`
	Control bool              `json:"control"`
	Token   string            `json:"token,omitempty"`
	History []json.RawMessage `json:"history"`
	Notes   []note            `json:"notes"`
	Marks   []mark            `json:"marks"`
	Audit   json.RawMessage   `json:"audit"`
	System  json.RawMessage   `json:"system"`
}
