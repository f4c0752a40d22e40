package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v3"

	"github.com/rocketrides/unilog/internal/testenv"
)

const deployDir = "../../../deploy/"

// elsewhere are variables that libraries read, not flags.
var elsewhere = []string{"PGPASSWORD"}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// runs sees that the program has this command, with these flags, and reads
// these variables. It returns what was parsed.
func runs(t *testing.T, args []string, variables ...string) *commands {
	t.Helper()
	cmds := new(commands)
	parser, err := program.Parser(cmds)
	if err != nil {
		t.Fatal(err)
	}
	command, err := parser.Parse(args)
	if err != nil {
		t.Errorf("%q: %v", args, err)
		return cmds
	}
	known := names(command.Flags())
	for _, name := range variables {
		if !slices.Contains(known, name) {
			t.Errorf("%q does not read %s, only %q", args, name, known)
		}
	}
	return cmds
}

func names(flags []*kong.Flag) []string {
	names := slices.Clone(elsewhere)
	for _, flag := range flags {
		names = append(names, flag.Envs...)
	}
	return names
}

// healthPort is where the command that was parsed answers its probes from
// outside, 0 if nowhere.
func healthPort(cmds *commands, command string) int {
	if command == "api" {
		return outsidePort(net.JoinHostPort(cmds.API.Listen, strconv.Itoa(int(cmds.API.Port))))
	}
	return adminPort(cmds, command)
}

// adminPort is where it shows its metrics to the outside.
func adminPort(cmds *commands, command string) int {
	return outsidePort(map[string]string{
		"api": cmds.API.AdminListen, "streamer": cmds.Streamer.AdminListen, "consumer": cmds.Consumer.AdminListen,
	}[command])
}

func outsidePort(listen string) int {
	host, port, _ := net.SplitHostPort(listen)
	number, _ := strconv.Atoi(port)
	if ip := net.ParseIP(host); ip == nil || !ip.IsUnspecified() {
		return 0
	}
	return number
}

func TestDockerfile(t *testing.T) {
	t.Parallel()
	text := readFile(t, deployDir+"Dockerfile")
	for instruction, want := range map[string][]string{"HEALTHCHECK": {"/rocketrides", "probe"}, "ENTRYPOINT": {"/rocketrides"}} {
		match := regexp.MustCompile(`(?m)^` + instruction + `\b.*?(\[.*\])$`).FindStringSubmatch(text)
		if match == nil {
			t.Errorf("no %s", instruction)
			continue
		}
		var args []string
		if err := json.Unmarshal([]byte(match[1]), &args); err != nil || !slices.Equal(args, want) {
			t.Errorf("%s is %q, %v, want %q", instruction, args, err, want)
		}
	}
	runs(t, []string{"probe"}, "ADMIN_LISTEN", "API_PORT")
}

func compose(t *testing.T) (services map[string]composeService) {
	t.Helper()
	var file struct{ Services map[string]composeService }
	if err := yaml.Unmarshal([]byte(readFile(t, deployDir+"compose.yaml")), &file); err != nil {
		t.Fatal(err)
	}
	return file.Services
}

type composeService struct {
	Image       string
	Command     []string
	Environment map[string]string
	DependsOn   map[string]struct{ Condition string } `yaml:"depends_on"`
}

func TestCompose(t *testing.T) {
	t.Parallel()
	services := compose(t)
	found := 0
	for name, s := range services {
		for needed := range s.DependsOn {
			if _, ok := services[needed]; !ok {
				t.Errorf("%s depends on %s, which is not there", name, needed)
			}
		}
		if s.Image != "rocketrides" {
			continue
		}
		found++
		var variables []string
		for variable := range s.Environment {
			variables = append(variables, variable)
		}
		cmds := runs(t, s.Command, variables...)
		if name != "migrate" && outsidePort(s.Environment["ADMIN_LISTEN"]) == 0 {
			t.Errorf("%s shows its metrics to nobody: %v", name, s.Environment)
		}
		if name == "api" && healthPort(cmds, name) != 5005 {
			t.Errorf("the api's port is not to be reached from outside its container: %q", s.Command)
		}
		if name != "migrate" && s.DependsOn["migrate"].Condition != "service_completed_successfully" {
			t.Errorf("%s does not wait for migrate", name)
		}
	}
	if found != 5 {
		t.Errorf("%d services are ours, want migrate, api, streamer and two consumers", found)
	}
}

// A real Redis, told otherwise first, takes the settings of compose.yaml.
func TestComposeRedisIsDurable(t *testing.T) {
	t.Parallel()
	command := compose(t)["redis"].Command
	if len(command) == 0 || command[0] != "redis-server" {
		t.Fatalf("redis runs %q", command)
	}
	args := []string{"--appendonly", "no", "--appendfsync", "no", "--maxmemory-policy", "allkeys-lru"}
	server := testenv.Redis(t, append(args, command[1:]...)...)
	client := testenv.RedisClient(t, server.URL())
	for name, want := range map[string]string{"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"} {
		got, err := client.Do(t.Context(), client.B().ConfigGet().Parameter(name).Build()).AsStrMap()
		if err != nil || got[name] != want {
			t.Errorf("%s is %q, %v, want %q", name, got[name], err, want)
		}
	}
}

type probe struct {
	HTTPGet struct{ Path, Port string } `yaml:"httpGet"`
}

type container struct {
	Args  []string
	Env   []struct{ Name, Value string }
	Ports []struct {
		Name          string
		ContainerPort int `yaml:"containerPort"`
	}
	LivenessProbe   probe `yaml:"livenessProbe"`
	ReadinessProbe  probe `yaml:"readinessProbe"`
	SecurityContext struct {
		AllowPrivilegeEscalation *bool `yaml:"allowPrivilegeEscalation"`
		ReadOnlyRootFilesystem   bool  `yaml:"readOnlyRootFilesystem"`
	} `yaml:"securityContext"`
}

type manifest struct {
	Kind string
	Spec struct {
		Template struct {
			Metadata struct{ Annotations map[string]string }
			Spec     struct {
				Containers         []container
				EnableServiceLinks *bool `yaml:"enableServiceLinks"`
				SecurityContext    struct {
					RunAsNonRoot bool `yaml:"runAsNonRoot"`
				} `yaml:"securityContext"`
			}
		}
	}
}

func TestKubernetes(t *testing.T) {
	t.Parallel()
	var commands []string
	decoder := yaml.NewDecoder(strings.NewReader(readFile(t, deployDir+"kubernetes.yaml")))
	for {
		var m manifest
		if err := decoder.Decode(&m); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		pod := m.Spec.Template.Spec
		for _, c := range pod.Containers {
			commands = append(commands, c.Args[0])
			c.check(t, m.Spec.Template.Metadata.Annotations["prometheus.io/port"])
			if links := pod.EnableServiceLinks; links == nil || *links {
				t.Errorf("%q: a service could set its variables", c.Args)
			}
			escalation := c.SecurityContext.AllowPrivilegeEscalation
			if !pod.SecurityContext.RunAsNonRoot || !c.SecurityContext.ReadOnlyRootFilesystem || escalation == nil || *escalation {
				t.Errorf("%q: its securityContext lacks something", c.Args)
			}
		}
	}
	if want := []string{"migrate", "api", "streamer", "consumer"}; !slices.Equal(commands, want) {
		t.Errorf("containers run %q, want %q", commands, want)
	}
}

// check sees that the program runs like this, and is probed and scraped where it
// answers.
func (c container) check(t *testing.T, scraped string) {
	t.Helper()
	var variables []string
	for _, env := range c.Env {
		variables = append(variables, env.Name)
		if env.Value != "" {
			t.Errorf("%q: %s is not from a Secret", c.Args, env.Name)
		}
	}
	cmds := runs(t, c.Args, variables...)
	port := healthPort(cmds, c.Args[0])
	if c.Args[0] == "migrate" {
		return
	}
	ports := map[string]int{}
	for _, p := range c.Ports {
		ports[p.Name] = p.ContainerPort
	}
	if admin := adminPort(cmds, c.Args[0]); admin == 0 || ports["admin"] != admin || scraped != strconv.Itoa(admin) {
		t.Errorf("%q: it is scraped at %q and its admin port is %d, and it shows metrics at %d", c.Args, scraped, ports["admin"], admin)
	}
	for path, p := range map[string]probe{"/healthz": c.LivenessProbe, "/readyz": c.ReadinessProbe} {
		if p.HTTPGet.Path != path || port == 0 || ports[p.HTTPGet.Port] != port {
			t.Errorf("%q: the probe of %s asks %+v at %d, and the pod answers at %d", c.Args, path, p.HTTPGet, ports[p.HTTPGet.Port], port)
		}
	}
}

func TestSystemdCommands(t *testing.T) {
	t.Parallel()
	units, err := filepath.Glob(deployDir + "systemd/*.service")
	if err != nil || len(units) != 5 {
		t.Fatalf("units %q, %v", units, err)
	}
	for _, path := range units {
		unit := readFile(t, path)
		command := regexp.MustCompile(`(?m)^ExecStart=/usr/local/bin/rocketrides (.*)$`).FindStringSubmatch(unit)
		if command == nil {
			t.Errorf("%s runs nothing of ours", path)
			continue
		}
		var variables []string
		for _, env := range regexp.MustCompile(`(?m)^Environment=(\w+)=`).FindAllStringSubmatch(unit, -1) {
			variables = append(variables, env[1])
		}
		runs(t, strings.Fields(command[1]), variables...)
	}
}

// systemd itself reads the units, and finds them well fenced in.
func TestSystemdUnits(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("CI must have systemd, to read the units")
		}
		t.Skip("no systemd here to read the units")
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(deployDir+"systemd")); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	units, _ := filepath.Glob(filepath.Join(dir, "*.service"))
	for _, path := range units {
		// It looks whether the program is there.
		unit := strings.ReplaceAll(readFile(t, path), "/usr/local/bin/rocketrides", self)
		if err := os.WriteFile(path, []byte(unit), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range units {
		path = strings.Replace(path, "@.", "@consumer0.", 1)
		for _, args := range [][]string{
			{"verify", "--man=no", "--recursive-errors=no", path},
			{"security", "--offline=yes", "--threshold=20", "--no-pager", path}, // of 100, which is no fence
		} {
			if out, err := exec.CommandContext(t.Context(), "systemd-analyze", args...).CombinedOutput(); err != nil {
				t.Errorf("systemd-analyze %q: %v:\n%s", args, err, bytes.TrimSpace(out))
			}
		}
	}
}

// Each line of an environment file, also one that is commented out, sets what
// some command reads.
func TestEnvironmentFiles(t *testing.T) {
	t.Parallel()
	parser, err := program.Parser(new(commands))
	if err != nil {
		t.Fatal(err)
	}
	var known []string
	for _, command := range parser.Model.Leaves(false) {
		for _, flags := range command.AllFlags(false) {
			known = append(known, names(flags)...)
		}
	}
	for _, path := range []string{deployDir + "systemd/rocketrides.env", "../../../.env.example"} {
		for _, set := range regexp.MustCompile(`(?m)^#?([A-Z_]+)=`).FindAllStringSubmatch(readFile(t, path), -1) {
			if !slices.Contains(known, set[1]) {
				t.Errorf("%s sets %s, which nothing reads", path, set[1])
			}
		}
	}
}

func TestProcfile(t *testing.T) {
	t.Parallel()
	for _, line := range regexp.MustCompile(`(?m)^\w+: bin/rocketrides (.*)$`).FindAllStringSubmatch(readFile(t, "../../../Procfile"), -1) {
		runs(t, strings.Fields(line[1]))
	}
}
