package version

import (
	"runtime"
	"runtime/debug"
	"testing"
)

func TestString(t *testing.T) {
	defer func(r, c string) { release, commit = r, c }(release, commit)
	release, commit = "v1.2.3", "c0ffee"
	if got, want := String("unilog"), "unilog v1.2.3, commit c0ffee, "+runtime.Version(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestRevision(t *testing.T) {
	t.Parallel()
	for want, settings := range map[string][]debug.BuildSetting{
		"":                   {{Key: "vcs.modified", Value: "true"}},
		"c0ffee":             {{Key: "vcs.revision", Value: "c0ffee"}, {Key: "vcs.modified", Value: "false"}},
		"c0ffee and changes": {{Key: "vcs.revision", Value: "c0ffee"}, {Key: "vcs.modified", Value: "true"}},
	} {
		if got := revision(settings); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
