package doctor

import (
	"cmp"
	"fmt"
	"regexp"
	"strconv"
)

// sqlDurability is what of the settings decides whether a commit lasts: who has set that it
// need not, the standbys that it waits for, and tables that a crash empties. $1 is the log's
// schema, $2 are tables of the program's own.
const sqlDurability = `
    (SELECT source FROM pg_settings WHERE name = 'synchronous_commit') AS commit_source,
    current_setting('synchronous_standby_names') AS standby_names,
    (SELECT count(*) FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum')) AS synchronous,
    (SELECT count(*) FROM pg_stat_replication WHERE sync_state IS NULL) AS hidden,
    coalesce((
        SELECT string_agg(c.oid::regclass::text, ', ' ORDER BY c.oid)
        FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
        WHERE c.relpersistence = 'u' AND c.relkind = 'r'
            AND (n.nspname = $1 OR c.oid IN (SELECT to_regclass(t) FROM unnest($2::text[]) AS t))
    ), '') AS unlogged`

// durability has the columns of sqlDurability.
type durability struct {
	SynchronousCommit, CommitSource string
	StandbyNames                    string
	Synchronous, Hidden             int
	Unlogged                        string
}

// setBy says where a setting comes from, by pg_settings.source.
var setBy = map[string]string{
	"database": "the database", "user": "the role", "database user": "the role in this database", "client": "the connection string",
	"configuration file": "the server's configuration", "command line": "the server's command line", "default": "nobody",
}

func (s durability) judge(role string) []Finding {
	commit := about("synchronous_commit", OK,
		fmt.Sprintf("synchronous_commit is %s for role %s, set by %s", s.SynchronousCommit, role, cmp.Or(setBy[s.CommitSource], s.CommitSource)),
		"when off, records that were confirmed to clients are lost in a crash; when local, if a standby is promoted",
		"", API)
	// The leader and the consumers choose for themselves.
	if s.SynchronousCommit == "off" || s.SynchronousCommit == "local" && s.StandbyNames != "" {
		commit.Level, commit.Change = Unsafe, "set synchronous_commit = on for the server, the database and the role"
	}
	tables := about("unlogged tables", OK, "all tables survive a crash", "Postgres empties unlogged tables after a crash", "", API, Streamer, Consumer)
	if s.Unlogged != "" {
		tables.Level, tables.Found = Unsafe, "unlogged: "+s.Unlogged
		tables.Change = "ALTER TABLE … SET LOGGED for each"
	}
	return []Finding{commit, s.judgeStandbys(), tables}
}

// demanded is how many standbys a commit waits for, by synchronous_standby_names.
var demanded = regexp.MustCompile(`(?i)^\s*(?:first\s+|any\s+)?(\d+)\s*\(`)

// judgeStandbys stops no process: all goes on when the standby is back.
func (s durability) judgeStandbys() Finding {
	const check, why = "synchronous standbys", "each commit waits for as many as synchronous_standby_names says; one whose wait is cancelled may be lost when a standby is promoted"
	if s.StandbyNames == "" {
		return about(check, OK, "no commit waits for a standby", "one that is promoted may lack the last commits", "")
	}
	needs := 1
	if match := demanded.FindStringSubmatch(s.StandbyNames); match != nil {
		needs, _ = strconv.Atoi(match[1])
	}
	found := fmt.Sprintf("%d of %d synchronous standbys are there (%s)", min(s.Synchronous, needs), needs, s.StandbyNames)
	switch {
	case s.Synchronous >= needs:
		return about(check, OK, found, why, "")
	case s.Hidden > 0:
		return about(check, Advice, "whether the synchronous standbys are there cannot be seen", why, "grant this role pg_monitor")
	}
	return about(check, Unsafe, found, why, "bring them back, see pg_stat_replication; or take them out of synchronous_standby_names and reload")
}
