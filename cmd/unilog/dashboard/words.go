package dashboard

import "cmp"

// Words are what the page calls what an application does, so that people of that
// application need not think in records. Each that is empty is about records, or left
// out.
type Words struct {
	// Title names the application.
	Title string
	// Promise is the sentence that heads the page.
	Promise string
	// One and Many are what is written: order, orders.
	One, Many string
	// Do, Does, Doing and Did are the verb for writing one: place, places, placing, placed.
	Do, Does, Doing, Did string
	// Unit and Measure are those of the amounts: m, metres.
	Unit, Measure string
	// Writer is the process that writes: shop. Step says what it does.
	Writer, Step string
}

// phrases are words put to use.
type phrases struct {
	Words
	Program string // whose subcommands say the same on a terminal
	Engine  string // what holds the log, at first
	Audited bool   // there is an audit to show
	// Committed is what it means to be staged, Truth heads the row of the truth on a
	// terminal, and Waiting is what waits in Postgres while the log is down.
	Committed, Truth, Waiting string
}

func (c *Config) engine() string {
	if c.Engine == nil {
		return "Redis"
	}
	return c.Engine()
}

func (c *Config) phrases() phrases {
	p := phrases{Words: c.Words, Program: cmp.Or(c.Program, "unilog"), Engine: c.engine(), Audited: c.Audit != nil}
	p.Committed, p.Waiting = "committed, not yet in line", "they"
	if p.One != "" {
		p.Committed, p.Waiting = "committed with the "+p.One+", not yet in line", "their records"
	}
	p.Truth = cmp.Or(p.Did, "truth")
	p.Title = cmp.Or(p.Title, p.Program)
	p.Promise = cmp.Or(p.Promise, "Every record that is committed reaches every consumer exactly once, whatever crashes on the way.")
	p.One, p.Many = cmp.Or(p.One, "record"), cmp.Or(p.Many, "records")
	p.Do, p.Does, p.Doing, p.Did = cmp.Or(p.Do, "write"), cmp.Or(p.Does, "writes"), cmp.Or(p.Doing, "writing"), cmp.Or(p.Did, "written")
	p.Measure = cmp.Or(p.Measure, p.Unit)
	p.Writer = cmp.Or(p.Writer, "writers")
	p.Step = cmp.Or(p.Step, "stage a record in the transaction that it tells of")
	return p
}

// Amount writes one with its unit.
func (w *Words) Amount(decimal string) string {
	if w.Unit == "" {
		return decimal
	}
	return decimal + " " + w.Unit
}

// JSON is what the page's scripts take.
func (p phrases) JSON() string {
	return string(encode(map[string]any{
		"audited": p.Audited, "one": p.One, "many": p.Many, "do": p.Do, "does": p.Does, "doing": p.Doing, "did": p.Did,
		"unit": p.Unit, "writer": p.Writer, "engine": p.Engine, "committed": p.Committed, "waiting": p.Waiting,
	}))
}
