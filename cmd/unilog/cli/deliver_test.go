package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestReceiverFlags is not parallel: secrets come from the environment.
func TestReceiverFlags(t *testing.T) {
	const secret, another = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(another+"\n"+secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		flags    ReceiverFlags
		variable string
		want     string // the error
		secrets  int
	}{
		{ReceiverFlags{To: "https://a.example/"}, secret, "", 1},
		{ReceiverFlags{To: "https://a.example/", SecretFile: file}, "", "", 2},
		{ReceiverFlags{To: "http://127.0.0.1:1/", Unsigned: true}, "", "", 0},
		{ReceiverFlags{To: "http://[::1]:1/", Unsigned: true}, "", "", 0},
		{ReceiverFlags{To: "http://10.0.0.1/", Unsigned: true, InsecureHTTP: true}, "", "", 0},
		{ReceiverFlags{To: "http://10.0.0.1/", Unsigned: true}, "", "--insecure-http", 0},
		{ReceiverFlags{To: "https://a.example/"}, "", "no secret to sign with", 0},
		{ReceiverFlags{To: "https://a.example/"}, "MfKQ9r8G", "DELIVER_SECRET: a secret must be whsec_", 0},
		{ReceiverFlags{To: "https://a.example/", Unsigned: true}, secret, "leave one out", 0},
		{ReceiverFlags{To: "https://a.example/", SecretFile: file + "x"}, "", "--secret-file: ", 0},
		{ReceiverFlags{To: "https://a.example/", Unsigned: true, CAFile: file}, "", "no certificate in PEM form", 0},
		{ReceiverFlags{Unsigned: true}, "", "set --to", 0},
		{ReceiverFlags{To: "a.example", Unsigned: true}, "", "the receiver's URL must be like", 0},
	} {
		t.Setenv("DELIVER_SECRET", test.variable)
		test.flags.Format = "plain"
		_, err := test.flags.hook()
		secrets, _ := test.flags.secrets()
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) || err == nil && len(secrets) != test.secrets {
			t.Errorf("%+v with %q: %v, %d secrets", test.flags, test.variable, err, len(secrets))
		}
	}
}

func TestDeliverFlags(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		flags Deliver
		want  string
	}{
		{Deliver{SaveEvery: 1, KindFlags: KindFlags{Only: []string{"order", "order/create"}}}, ""},
		{Deliver{SaveEvery: 1, KindFlags: KindFlags{Only: []string{"order/"}}}, "--only: "},
		{Deliver{SaveEvery: 1, Start: "head"}, ""},
		{Deliver{SaveEvery: 1, Start: "90m"}, ""},
		{Deliver{SaveEvery: 1, Start: "now"}, "--start must be beginning, head or a time: "},
		{Deliver{SaveEvery: 1, Attempts: -1}, "--attempts is -1"},
		{Deliver{}, "--save-every is 0"},
	} {
		if err := test.flags.Validate(); (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: %v", test.flags, err)
		}
	}
}
