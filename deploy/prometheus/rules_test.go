// Package prometheus_test runs alerts_test.yaml, which has the format of
// `promtool test rules`, by the packages behind promtool. To compile promtool
// itself takes about twice as long.
package prometheus_test

import (
	"context"
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/model"
	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/rules"
	"go.yaml.in/yaml/v2"
)

type testFile struct {
	RuleFiles          []string       `yaml:"rule_files"`
	EvaluationInterval model.Duration `yaml:"evaluation_interval"`
	Tests              []testCase
}

type testCase struct {
	Name        string
	Interval    model.Duration
	InputSeries []struct{ Series, Values string } `yaml:"input_series"`
	Alerts      []struct {
		EvalTime model.Duration `yaml:"eval_time"`
		Name     string         `yaml:"alertname"`
		Expected []alert        `yaml:"exp_alerts"`
	} `yaml:"alert_rule_test"`
	Expressions []struct {
		EvalTime model.Duration `yaml:"eval_time"`
		Expr     string
		Expected []struct{} `yaml:"exp_samples"` // only none is supported
	} `yaml:"promql_expr_test"`
}

type alert struct {
	Labels      map[string]string `yaml:"exp_labels"`
	Annotations map[string]string `yaml:"exp_annotations"`
}

func readTests(t *testing.T) (file testFile) {
	t.Helper()
	text, err := os.ReadFile("alerts_test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalStrict(text, &file); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestAlerts(t *testing.T) {
	t.Parallel()
	file := readTests(t)
	for _, test := range file.Tests {
		t.Run(test.Name, func(t *testing.T) {
			t.Parallel()
			test.run(t, time.Duration(file.EvaluationInterval), file.RuleFiles)
		})
	}
}

// run evaluates the rules at each step of the test, as Prometheus does.
func (c *testCase) run(t *testing.T, step time.Duration, ruleFiles []string) {
	p := parser.NewParser(parser.Options{})
	var load strings.Builder
	load.WriteString("load " + c.Interval.String() + "\n")
	for _, s := range c.InputSeries {
		load.WriteString("  " + s.Series + " " + s.Values + "\n")
	}
	suite, err := promqltest.NewLazyLoader(load.String(), promqltest.LazyLoaderOpts{Parser: p, EnableAtModifier: true})
	if err != nil {
		t.Fatal(err)
	}
	defer suite.Close()
	query := rules.EngineQueryFunc(suite.QueryEngine(), suite.Storage())
	groups, errs := rules.NewManager(&rules.ManagerOptions{
		QueryFunc: query, AppendableV2: suite.Storage(), Context: t.Context(), Parser: p, Logger: promslog.NewNopLogger(),
		NotifyFunc: func(context.Context, string, ...*rules.Alert) {},
	}).LoadGroups(time.Duration(c.Interval), labels.EmptyLabels(), "", nil, false, ruleFiles...)
	if errs != nil {
		t.Fatal(errs)
	}
	var last time.Duration
	for _, a := range c.Alerts {
		last = max(last, time.Duration(a.EvalTime))
	}
	for _, e := range c.Expressions {
		last = max(last, time.Duration(e.EvalTime))
	}
	for at := time.Duration(0); at <= last; at += step {
		now := time.Unix(0, 0).Add(at)
		suite.WithSamplesTill(now, func(err error) {
			if err != nil {
				t.Fatal(err)
			}
			evaluate(t, groups, now)
		})
		for _, a := range c.Alerts {
			if time.Duration(a.EvalTime) != at {
				continue
			}
			for i := range a.Expected {
				a.Expected[i].Labels["alertname"] = a.Name
			}
			if diff := cmp.Diff(sorted(a.Expected), firing(groups, a.Name)); diff != "" {
				t.Errorf("%s at %v (- expected, + fires):\n%s", a.Name, a.EvalTime, diff)
			}
		}
		for _, e := range c.Expressions {
			if time.Duration(e.EvalTime) != at {
				continue
			}
			if got, err := query(t.Context(), e.Expr, now); err != nil || len(got) > 0 {
				t.Errorf("%s at %v: %v, %v, and nothing was expected", e.Expr, e.EvalTime, got, err)
			}
		}
	}
}

func evaluate(t *testing.T, groups map[string]*rules.Group, now time.Time) {
	t.Helper()
	for _, g := range groups {
		for _, r := range g.Rules() {
			if r, ok := r.(*rules.AlertingRule); ok {
				r.SetRestored(true) // else it does not write ALERTS
			}
		}
		g.Eval(t.Context(), now)
		for _, r := range g.Rules() {
			if err := r.LastError(); err != nil {
				t.Fatalf("%s at %v: %v", r.Name(), now, err)
			}
		}
	}
}

func firing(groups map[string]*rules.Group, name string) []alert {
	var out []alert
	for _, g := range groups {
		for _, r := range g.AlertingRules() {
			for _, a := range r.ActiveAlerts() {
				if r.Name() == name && a.State == rules.StateFiring {
					out = append(out, alert{a.Labels.Map(), a.Annotations.Map()})
				}
			}
		}
	}
	return sorted(out)
}

func sorted(alerts []alert) []alert {
	key := func(a alert) string {
		text, _ := json.Marshal(a) // with sorted keys
		return string(text)
	}
	slices.SortFunc(alerts, func(a, b alert) int { return strings.Compare(key(a), key(b)) })
	return alerts
}

// TestEachAlertIsTested sees that each alert fires in some test, and in some
// does not.
func TestEachAlertIsTested(t *testing.T) {
	t.Parallel()
	file := readTests(t)
	fires, rests := map[string]bool{}, map[string]bool{}
	for _, test := range file.Tests {
		for _, a := range test.Alerts {
			if len(a.Expected) > 0 {
				fires[a.Name] = true
			} else {
				rests[a.Name] = true
			}
		}
	}
	text, err := os.ReadFile("alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var groups struct {
		Groups []struct{ Rules []struct{ Alert string } }
	}
	if err := yaml.Unmarshal(text, &groups); err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, g := range groups.Groups {
		for _, r := range g.Rules {
			names[r.Alert] = true
		}
	}
	if len(names) == 0 || !maps.Equal(fires, names) || !maps.Equal(rests, names) {
		t.Errorf("alerts:\n%v\nfire in a test:\n%v\ndo not, in a test:\n%v", names, fires, rests)
	}
}

// TestDashboard sees that Prometheus understands the expressions of the
// dashboard.
func TestDashboard(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../grafana/rocketrides.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct{ Targets []struct{ Expr string } }
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	p := parser.NewParser(parser.Options{})
	for _, panel := range dashboard.Panels {
		for _, target := range panel.Targets {
			// Grafana's own variable.
			expr := strings.ReplaceAll(target.Expr, "$__rate_interval", "1m")
			if _, err := p.ParseExpr(expr); err != nil {
				t.Errorf("%s: %v", target.Expr, err)
			}
		}
	}
}

// TestAlertsOfAnotherService sees that what service.sh makes of the alerts are all of
// them but for those about an api, under the service's name.
func TestAlertsOfAnotherService(t *testing.T) {
	dir := t.TempDir()
	if out, err := exec.Command("sh", "../service.sh", "orders", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	names := func(file string) (names []string) {
		groups, errs := rulefmt.ParseFile(file, false, model.UTF8Validation, parser.NewParser(parser.Options{}), promslog.NewNopLogger())
		if len(errs) > 0 {
			t.Fatal(errs)
		}
		for _, g := range groups.Groups {
			if len(g.Rules) == 0 {
				t.Errorf("%s: group %s is empty", file, g.Name)
			}
			for _, r := range g.Rules {
				if !strings.Contains(r.Expr, "rocketrides_") {
					names = append(names, strings.TrimPrefix(strings.TrimPrefix(r.Alert, "RocketRides"), "Orders"))
				}
			}
		}
		return names
	}
	got, want := names(filepath.Join(dir, "prometheus", "alerts.yaml")), names("alerts.yaml")
	if diff := cmp.Diff(want, got); diff != "" || len(got) == 0 {
		t.Errorf("other alerts (-want +got):\n%s", diff)
	}
}
