package kafkalog

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/rocketrides/unilog/internal/tlsfiles"
)

// errURL does not quote the URL, which may hold a password.
var errURL = errors.New("kafkalog: the Kafka URL is not valid: it looks like kafka://user:password@broker1:9092,broker2:9092/topic?sasl=scram-sha-512, or kafka+tls://…")

const (
	dialTimeout = 5 * time.Second
	defaultPort = "9092"
)

// What Kafka takes for a topic.
var topicName = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,200}$`)

// parse reads a URL.
func parse(text string) (*Log, error) {
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok || scheme != "kafka" && scheme != "kafka+tls" {
		return nil, errURL
	}
	// A URL has one host, so the brokers are taken out of it.
	authority, path := rest, ""
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		authority, path = rest[:i], rest[i:]
	}
	user, brokers := "", authority
	if i := strings.LastIndex(authority, "@"); i >= 0 {
		user, brokers = authority[:i+1], authority[i+1:]
	}
	u, err := url.Parse(scheme + "://" + user + "kafka" + path)
	if err != nil || u.Fragment != "" {
		return nil, errURL
	}
	l := &Log{topic: strings.TrimPrefix(u.Path, "/"), writers: map[int]chan *writer{}}
	if !topicName.MatchString(l.topic) || l.topic == "." || l.topic == ".." {
		return nil, errors.New("kafkalog: the Kafka URL must end with a topic's name, as in kafka://broker:9092/topic: up to 200 letters, digits, dots, underscores and hyphens")
	}
	seeds, err := addresses(brokers)
	if err != nil {
		return nil, err
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return nil, errURL
	}
	if l.replication, err = parameters(query); err != nil {
		return nil, err
	}
	l.options = []kgo.Opt{
		kgo.SeedBrokers(seeds...), kgo.DisableClientMetrics(),
		kgo.MetadataMinAge(100 * time.Millisecond), kgo.RetryTimeout(patience),
	}
	mechanism, err := mechanism(query.Get("sasl"), u.User)
	if err != nil {
		return nil, err
	}
	if mechanism != nil {
		l.options = append(l.options, kgo.SASL(mechanism))
	}
	dial, err := dialer(scheme, query)
	if err != nil {
		return nil, err
	}
	l.options = append(l.options, kgo.Dialer(dial))
	return l, nil
}

// parameters checks the parameters and returns the number of copies, 0 if none is
// given.
func parameters(query url.Values) (replication int, err error) {
	for name, values := range query {
		switch name {
		case "sasl", "replication", "cacert", "cert", "key":
		default:
			return 0, fmt.Errorf("kafkalog: the Kafka URL has the parameter %q, which is not known: it can have sasl, replication, cacert, cert and key", name)
		}
		if len(values) > 1 {
			return 0, fmt.Errorf("kafkalog: the Kafka URL has the parameter %s more than once", name)
		}
	}
	text := query.Get("replication")
	if text == "" {
		return 0, nil
	}
	if replication, err = strconv.Atoi(text); err != nil || replication < 1 || replication > 32767 {
		return 0, errors.New("kafkalog: replication in the Kafka URL must be the number of copies that the topic has, at least 1")
	}
	return replication, nil
}

// dialer returns how to connect to a broker.
func dialer(scheme string, query url.Values) (func(ctx context.Context, network, address string) (net.Conn, error), error) {
	var config *tls.Config
	if scheme == "kafka+tls" {
		config = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if err := tlsfiles.Use(config, query, "Kafka", "kafka+tls"); err != nil {
		return nil, fmt.Errorf("kafkalog: %w", err)
	}
	plain := &net.Dialer{Timeout: dialTimeout}
	if config == nil {
		return plain.DialContext, nil
	}
	return (&tls.Dialer{NetDialer: plain, Config: config}).DialContext, nil
}

// addresses reads the brokers' names.
func addresses(brokers string) ([]string, error) {
	var seeds []string
	for broker := range strings.SplitSeq(brokers, ",") {
		if !strings.Contains(broker, ":") || strings.HasSuffix(broker, "]") {
			broker += ":" + defaultPort
		}
		host, port, err := net.SplitHostPort(broker)
		if n, numErr := strconv.Atoi(port); err != nil || numErr != nil || host == "" || n < 1 || n > 65535 {
			return nil, errURL
		}
		seeds = append(seeds, net.JoinHostPort(host, port))
	}
	return seeds, nil
}

// mechanism is how the user logs in.
func mechanism(name string, user *url.Userinfo) (sasl.Mechanism, error) {
	if (name == "") != (user == nil) {
		return nil, errors.New("kafkalog: the Kafka URL needs both a user and sasl, which is plain, scram-sha-256 or scram-sha-512, or neither")
	}
	if user == nil {
		return nil, nil
	}
	password, _ := user.Password()
	switch name {
	case "plain":
		return plain.Auth{User: user.Username(), Pass: password}.AsMechanism(), nil
	case "scram-sha-256":
		return scram.Auth{User: user.Username(), Pass: password}.AsSha256Mechanism(), nil
	case "scram-sha-512":
		return scram.Auth{User: user.Username(), Pass: password}.AsSha512Mechanism(), nil
	}
	return nil, fmt.Errorf("kafkalog: sasl=%s in the Kafka URL is not known: it can be plain, scram-sha-256 or scram-sha-512", name)
}
