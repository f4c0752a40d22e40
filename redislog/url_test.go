package redislog_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/redislog"
)

// TestOpenSaysWhatIsWrongWithClusterOrSentinel sees that it does so in one line,
// without the password.
func TestOpenSaysWhatIsWrongWithClusterOrSentinel(t *testing.T) {
	t.Parallel()
	const password = "open-sesame"
	cluster, sentinel := testenv.PatientRedis(testenv.SharedCluster(t)), testenv.PatientRedis(testenv.SharedSentinel(t))
	server, err := url.Parse(strings.Replace(cluster, ",", "/?others=", 1)) // its first node
	if err != nil {
		t.Fatal(err)
	}
	secret, _ := server.User.Password()
	for name, c := range map[string]struct{ url, says string }{
		"an unknown sort":              {"redis+ring://:open-sesame@a:1,b:2", "URL is not valid"},
		"a sort of something else":     {"http+cluster://:open-sesame@a:1,b:2", "URL is not valid"},
		"no host":                      {"redis+cluster://:open-sesame@", "URL is not valid"},
		"a host that is empty":         {"redis+cluster://:open-sesame@a:1,,b:2", "URL is not valid"},
		"a port that is none":          {"redis+cluster://:open-sesame@a:1,b:x", "URL is not valid"},
		"a password with a slash":      {"redis+cluster://:12/open-sesame@a:1,b:2", "URL is not valid"},
		"a password with two":          {"redis+sentinel://:1/2/open-sesame@a:1/mymaster", "URL is not valid"},
		"a cluster's database":         {"redis+cluster://:open-sesame@a:1,b:2/3", "has none but 0"},
		"a cluster's other database":   {"redis+cluster://:open-sesame@a:1,b:2?db=3", "has none but 0"},
		"no master":                    {"redis+sentinel://:open-sesame@a:1,b:2", "lacks the master's name"},
		"no master but a slash":        {"redis+sentinel://:open-sesame@a:1,b:2/?db=3", "lacks the master's name"},
		"a master's odd name":          {"redis+sentinel://:open-sesame@a:1,b:2/my@master", "URL is not valid"},
		"a database that is no number": {"redis+sentinel://:open-sesame@a:1,b:2/mymaster/x", "URL is not valid"},
		"files without TLS":            {"redis+cluster://:open-sesame@a:1,b:2?cacert=a", "let it begin with rediss"},
		"nobody there":                 {"redis+cluster://:open-sesame@127.0.0.1:1,127.0.0.1:2", "connection refused"},
		"no sentinels there":           {"redis+sentinel://:open-sesame@127.0.0.1:1,127.0.0.1:2/mymaster", "connection refused"},
		"another password":             {strings.Replace(cluster, server.User.String(), ":open-sesame", 1), "WRONGPASS"},
		"another master's name":        {strings.Replace(sentinel, "/mymaster", "/yourmaster", 1), "No such master"},
		"a server that is no sentinel": {testenv.PatientRedis("redis+sentinel://" + server.User.String() + "@" + server.Host + "/mymaster?sentinel_user=default&sentinel_password=" + secret), "unknown command"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log, err := redislog.Open(t.Context(), c.url, "stream")
			if err == nil {
				log.Close()
				t.Fatal("it opened")
			}
			says := err.Error()
			if !strings.Contains(says, c.says) || strings.Contains(says, "\n") || strings.Contains(says, password) || strings.Contains(says, secret) {
				t.Errorf("it says %q; want one line with %q and no password", says, c.says)
			}
		})
	}
}

func TestOneServerIsNoCluster(t *testing.T) {
	t.Parallel()
	authority := testenv.NewAuthority(t)
	cert, key := authority.Issue("client")
	log, err := redislog.Open(t.Context(), testenv.PatientRedis("rediss+cluster://"+testenv.TLSRedis(t, authority)+
		"?cacert="+authority.File+"&cert="+cert+"&key="+key), "stream")
	if err == nil {
		log.Close()
		t.Fatal("it opened")
	}
	if !strings.Contains(err.Error(), "is not part of one") {
		t.Error(err)
	}
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ url, stream string }{
		"no stream":     {"redis://127.0.0.1:1", ""},
		"a stray brace": {"redis://127.0.0.1:1", "a}{b"},
		"an empty tag":  {"redis://127.0.0.1:1", "a{}"},
		"not a URL":     {"http://127.0.0.1", "log"},
		"nobody there":  {"unix:///nowhere/redis.sock", "log"},
		"empty":         {"", "log"},
		"no such index": {testenv.PatientRedis(testenv.SharedRedis(t) + "?db=99"), "log"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if l, err := redislog.Open(t.Context(), c.url, c.stream); err == nil {
				l.Close()
				t.Error("it opened")
			}
		})
	}
}
