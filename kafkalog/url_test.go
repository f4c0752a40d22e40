package kafkalog_test

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rocketrides/unilog/internal/kafka"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/kafkalog"
)

const password = "open/se:same@1%"

func TestKafkaOpenSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	user := "kafka://u:" + url.PathEscape(password) + "@127.0.0.1:1"
	for name, c := range map[string]struct{ url, says string }{
		"empty":                 {"", "is not valid: it looks like kafka://"},
		"another scheme":        {"redis://u:" + url.PathEscape(password) + "@127.0.0.1/topic", "is not valid"},
		"a bad escape":          {"kafka://u:%zz" + url.PathEscape(password) + "@127.0.0.1/topic", "is not valid"},
		"no broker":             {"kafka:///topic", "is not valid"},
		"a bad port":            {"kafka://127.0.0.1:1,127.0.0.1:x/topic", "is not valid"},
		"no topic":              {user, "must end with a topic's name"},
		"a bad topic":           {user + "/a/b", "must end with a topic's name"},
		"an unknown parameter":  {user + "/topic?sasl=plain&acks=1", `the parameter "acks", which is not known`},
		"a parameter twice":     {user + "/topic?sasl=plain&sasl=plain", "sasl more than once"},
		"a user without sasl":   {user + "/topic", "needs both a user and sasl"},
		"sasl without a user":   {"kafka://127.0.0.1:1/topic?sasl=plain", "needs both a user and sasl"},
		"an unknown mechanism":  {user + "/topic?sasl=gssapi", "sasl=gssapi in the Kafka URL is not known"},
		"a bad replication":     {user + "/topic?sasl=plain&replication=0", "replication in the Kafka URL"},
		"files without TLS":     {user + "/topic?sasl=plain&cacert=x", "let it begin with kafka+tls://"},
		"a certificate, no key": {"kafka+tls://127.0.0.1:1/topic?cert=x", "needs both cert and key"},
		"an authority, no file": {"kafka+tls://127.0.0.1:1/topic?cacert=/nowhere/x", "no such file"},
		"nobody there":          {user + "/topic?sasl=plain", "Kafka does not answer"},
		"nobody there, of any":  {"kafka://127.0.0.1:1,[::1]:1/topic", "Kafka does not answer"},
		"a fragment":            {user + "/topic#x", "is not valid"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wantNotOpen(t, c.url, c.says)
		})
	}
}

func wantNotOpen(t *testing.T, url, says string) {
	t.Helper()
	log, err := kafkalog.Open(t.Context(), url)
	if err == nil {
		log.Close()
		t.Errorf("it opened")
		return
	}
	if text := err.Error(); !strings.Contains(text, says) || strings.Contains(text, "\n") || strings.Contains(text, "same") {
		t.Errorf("%v; want one line with %q and no password", err, says)
	}
}

// TestKafkaTLSAndSASL opens logs in a broker that takes no client without a
// certificate and a password.
func TestKafkaTLSAndSASL(t *testing.T) {
	t.Parallel()
	authority, stranger := testenv.NewAuthority(t), testenv.NewAuthority(t)
	serverCert, serverKey := authority.Issue("server", "127.0.0.1")
	cert, key := authority.Issue("client")
	strangerCert, strangerKey := stranger.Issue("client")
	const jaas = "listener.name.clients.%s.sasl.jaas.config=org.apache.kafka.common.security.%s required%s;"
	cluster := testenv.Kafka(t, kafka.Options{
		Protocol: "SASL_SSL",
		Format: []string{
			"--add-scram", "SCRAM-SHA-256=[name=user,password=" + password + "]",
			"--add-scram", "SCRAM-SHA-512=[name=user,password=" + password + "]",
		},
		Properties: []string{
			"sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
			fmt.Sprintf(jaas, "plain", "plain.PlainLoginModule", ` user_user="`+password+`"`),
			fmt.Sprintf(jaas, "scram-sha-256", "scram.ScramLoginModule", ""),
			fmt.Sprintf(jaas, "scram-sha-512", "scram.ScramLoginModule", ""),
			"listener.name.clients.ssl.client.auth=required",
			"ssl.truststore.type=PEM", "ssl.truststore.location=" + authority.File,
			"ssl.keystore.type=PEM", "ssl.keystore.location=" + joined(t, serverKey, serverCert),
		},
	})
	address := func(scheme, password, mechanism, ca, cert, key string) string {
		return fmt.Sprintf("%s://user:%s@%s/topic?sasl=%s&cacert=%s&cert=%s&key=%s",
			scheme, url.PathEscape(password), cluster.Addresses(), mechanism, ca, cert, key)
	}
	for _, mechanism := range []string{"plain", "scram-sha-256", "scram-sha-512"} {
		log, err := kafkalog.Open(t.Context(), address("kafka+tls", password, mechanism, authority.File, cert, key))
		if err != nil {
			t.Fatalf("%s: %v", mechanism, err)
		}
		if _, err := log.Claim(t.Context(), term(1)); err != nil {
			t.Errorf("%s: %v", mechanism, err)
		}
		log.Close()
	}
	for name, c := range map[string]struct{ url, says string }{
		"a wrong password":  {address("kafka+tls", "same", "plain", authority.File, cert, key), "SASL_AUTHENTICATION_FAILED"},
		"another authority": {address("kafka+tls", password, "plain", stranger.File, cert, key), "unknown authority"},
		"no certificate":    {address("kafka+tls", password, "plain", authority.File, "", ""), "certificate"},
		"a stranger's":      {address("kafka+tls", password, "plain", authority.File, strangerCert, strangerKey), "certificate"},
		"without TLS":       {fmt.Sprintf("kafka://user:x@%s/topic?sasl=plain", cluster.Addresses()), "Kafka does not answer"},
	} {
		t.Run(name, func(t *testing.T) { wantNotOpen(t, c.url, c.says) })
	}
}

// joined writes files one after the other into a new one, as Kafka wants a key
// and its certificate.
func joined(t *testing.T, files ...string) string {
	t.Helper()
	var all []byte
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, text...)
	}
	path := filepath.Join(t.TempDir(), "joined.pem")
	if err := os.WriteFile(path, all, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
