package main

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// metricsDoc lists what the processes show, as [TestMetrics] sees.
const metricsDoc = "../../../docs/metrics.md"

func checkMetrics(t *testing.T, where, expr string) {
	t.Helper()
	documented := readFile(t, metricsDoc)
	for _, name := range regexp.MustCompile(`\b(unilog|rocketrides)_\w+`).FindAllString(expr, -1) {
		if !regexp.MustCompile("(?m)^\\| `" + strings.TrimSuffix(name, "_bucket") + "[`{]").MatchString(documented) {
			t.Errorf("%s: no process has the metric %s", where, name)
		}
	}
}

// Each alert can be acted on: it says how bad it is, and has its section.
func TestAlertRules(t *testing.T) {
	t.Parallel()
	var file struct {
		Groups []struct {
			Name  string
			Rules []struct {
				Alert, Expr, For    string
				Labels, Annotations map[string]string
			}
		}
	}
	if err := yaml.Unmarshal([]byte(readFile(t, deployDir+"prometheus/alerts.yaml")), &file); err != nil {
		t.Fatal(err)
	}
	var alerts []string
	expressions := map[string]bool{}
	for _, group := range file.Groups {
		for _, rule := range group.Rules {
			alerts = append(alerts, rule.Alert)
			if expressions[rule.Expr] {
				t.Errorf("%s has the expression of another", rule.Alert)
			}
			expressions[rule.Expr] = true
			checkMetrics(t, rule.Alert, rule.Expr)
			if severity := rule.Labels["severity"]; severity != "critical" && severity != "warning" {
				t.Errorf("%s: the severity is %q", rule.Alert, severity)
			}
			if rule.For == "" || rule.Annotations["summary"] == "" || !regexp.MustCompile(`\d|\$value`).MatchString(rule.Annotations["description"]) {
				t.Errorf("%s lacks a for, a summary, or a description with a figure", rule.Alert)
			}
			if want := "docs/operations.md#" + strings.ToLower(rule.Alert); rule.Annotations["runbook"] != want {
				t.Errorf("%s: the runbook is %q, want %q", rule.Alert, rule.Annotations["runbook"], want)
			}
		}
	}
	_, section, _ := strings.Cut(readFile(t, "../../../docs/operations.md"), "\n## Alerts\n")
	section, _, _ = strings.Cut(section, "\n## ")
	var headings []string
	for _, heading := range regexp.MustCompile(`(?m)^### (.*)$`).FindAllStringSubmatch(section, -1) {
		headings = append(headings, heading[1])
	}
	if alerts = slices.Compact(alerts); len(alerts) == 0 || !slices.Equal(headings, alerts) {
		t.Errorf("docs/operations.md has the alerts\n%q, want, in the order of alerts.yaml,\n%q", headings, alerts)
	}
}

type dashboardPanel struct {
	ID          int
	Type, Title string
	GridPos     struct{ X, Y, W, H int } `json:"gridPos"`
	Datasource  struct{ UID string }
	FieldConfig struct{ Defaults struct{ Unit string } } `json:"fieldConfig"`
	Targets     []struct{ Expr, RefID string }
}

func (p *dashboardPanel) overlaps(q *dashboardPanel) bool {
	a, b := p.GridPos, q.GridPos
	return a.X < b.X+b.W && b.X < a.X+a.W && a.Y < b.Y+b.H && b.Y < a.Y+a.H
}

func TestGrafanaDashboard(t *testing.T) {
	t.Parallel()
	var dashboard struct {
		Title, UID string
		Panels     []dashboardPanel
		Templating struct {
			List []struct{ Name, Type, Query string }
		}
	}
	if err := json.Unmarshal([]byte(readFile(t, deployDir+"grafana/rocketrides.json")), &dashboard); err != nil {
		t.Fatal(err)
	}
	if v := dashboard.Templating.List; len(v) != 1 || v[0].Name != "datasource" || v[0].Type != "datasource" || v[0].Query != "prometheus" {
		t.Errorf("variables %+v: want a datasource of Prometheus", v)
	}
	if len(dashboard.Panels) == 0 {
		t.Fatal("the dashboard has no panels")
	}
	ids, titles := map[int]bool{}, map[string]bool{}
	for i, p := range dashboard.Panels {
		if p.Title == "" || titles[p.Title] || p.ID == 0 || ids[p.ID] {
			t.Errorf("panel %d, %q: its id and title must be its own", p.ID, p.Title)
		}
		ids[p.ID], titles[p.Title] = true, true
		if p.Type == "" || p.FieldConfig.Defaults.Unit == "" || p.Datasource.UID != "${datasource}" || len(p.Targets) == 0 {
			t.Errorf("%s lacks a type, a unit, the variable's datasource, or something to show", p.Title)
		}
		if g := p.GridPos; g.W <= 0 || g.H <= 0 || g.X < 0 || g.Y < 0 || g.X+g.W > 24 {
			t.Errorf("%s is off the grid: %+v", p.Title, g)
		}
		for j := range dashboard.Panels[:i] {
			if other := &dashboard.Panels[j]; p.overlaps(other) {
				t.Errorf("%s overlaps %s", p.Title, other.Title)
			}
		}
		refs := map[string]bool{}
		for _, target := range p.Targets {
			if target.RefID == "" || refs[target.RefID] || target.Expr == "" {
				t.Errorf("%s: target %+v needs an expression and a refId of its own", p.Title, target)
			}
			refs[target.RefID] = true
			checkMetrics(t, p.Title, target.Expr)
		}
	}
}
