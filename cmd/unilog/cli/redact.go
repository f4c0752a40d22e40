package cli

import (
	"net/url"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"
)

var (
	// A password may have an @ itself: the last one ends it.
	userinfo  = regexp.MustCompile(`://\S*@`)
	parameter = regexp.MustCompile(`(?i)(password=)('[^']*'|[^\s&]*)`)
	// setting is the name of one of Postgres.
	setting = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.$]*$`)
)

// redact hides the passwords of what looks like a connection string.
func redact(text string) string {
	text = userinfo.ReplaceAllStringFunc(text, func(found string) string {
		if found == "://user:password@" { // the example that errors give
			return found
		}
		return "://xxxxx@"
	})
	if strings.Contains(text, "=") { // without, a tenth of the time
		text = parameter.ReplaceAllString(text, "${1}xxxxx")
	}
	return text
}

// misread says that a part of the password was taken for the database or for a
// setting, whose names errors may quote: it has a / or ? or a space that is not
// escaped.
func misread(databaseURL string, config *pgxpool.Config) bool {
	if u, err := url.Parse(databaseURL); err == nil && u.Scheme != "" && strings.Contains(u.EscapedPath(), "@") {
		return true
	}
	for name := range config.ConnConfig.RuntimeParams {
		if !setting.MatchString(name) {
			return true
		}
	}
	return false
}
