package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// LIPSTREAM_COMFYUI is the folder of a ComfyUI, LIPSTREAM_COMFYUI_PYTHON the
// Python that runs it. No package registry has ComfyUI, so CI has none either.
const (
	comfyuiVariable       = "LIPSTREAM_COMFYUI"
	comfyuiPythonVariable = "LIPSTREAM_COMFYUI_PYTHON"
)

// realComfyUI is a running ComfyUI with its own folders and our nodes.
type realComfyUI struct {
	t    *testing.T
	dir  string // custom_nodes, input, output
	url  string
	log  *bytes.Buffer
	cmd  *exec.Cmd
	done chan struct{}
}

// needComfyUI returns the folder of ComfyUI, or skips the test.
func needComfyUI(t *testing.T) string {
	t.Helper()
	folder := os.Getenv(comfyuiVariable)
	if folder == "" {
		t.Skip(comfyuiVariable + " names no ComfyUI")
	}
	return folder
}

// startComfyUI starts ComfyUI with additional environment variables.
func startComfyUI(t *testing.T, env ...string) *realComfyUI {
	t.Helper()
	folder := needComfyUI(t)
	python := os.Getenv(comfyuiPythonVariable)
	if python == "" {
		python = "python3"
	}
	c := &realComfyUI{t: t, dir: t.TempDir(), log: &bytes.Buffer{}, done: make(chan struct{})}
	makeHome(t, c.dir)
	for _, sub := range []string{"custom_nodes", "input"} {
		if err := os.MkdirAll(filepath.Join(c.dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for to, from := range map[string]string{"face.png": "portrait.png", "voice.wav": "speech.wav", "face.mp4": "head.mp4", "long.wav": "long.wav"} {
		if err := os.Symlink(in(from), filepath.Join(c.dir, "input", to)); err != nil {
			t.Fatal(err)
		}
	}
	lipstreamCommand(t, c.dir, "comfyui", "install", "--path", c.dir)
	port := freePort(t)
	c.url = "http://127.0.0.1:" + port
	c.cmd = exec.Command(python, filepath.Join(folder, "main.py"), "--cpu", "--base-directory", c.dir, "--listen", "127.0.0.1", "--port", port,
		"--disable-api-nodes", "--database-url", "sqlite:///:memory:")
	c.cmd.Dir, c.cmd.Env = folder, append(environment(c.dir, newMark()), env...)
	c.cmd.Stdout, c.cmd.Stderr = c.log, c.log
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { _ = c.cmd.Wait(); close(c.done) }()
	t.Cleanup(func() {
		_ = c.cmd.Process.Kill()
		<-c.done
		if t.Failed() {
			t.Logf("ComfyUI's log:\n%s", c.log)
		}
	})
	waitUntil(t, func() bool {
		select {
		case <-c.done:
			t.Fatalf("ComfyUI ended:\n%s", c.log)
		default:
		}
		r, err := http.Get(c.url + "/system_stats")
		if err == nil {
			_ = r.Body.Close()
		}
		return err == nil
	})
	return c
}

// call sends a request with JSON and decodes the JSON of the answer.
func (c *realComfyUI) call(method, path string, body, answer any) {
	c.t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		c.t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(c.t.Context(), method, c.url+path, bytes.NewReader(text))
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	got, err := http.DefaultClient.Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = got.Body.Close() }()
	var b bytes.Buffer
	if _, err := b.ReadFrom(got.Body); err != nil || got.StatusCode != http.StatusOK {
		c.t.Fatalf("%s %s: %s %v\n%s", method, path, got.Status, err, b.String())
	}
	if answer != nil {
		if err := json.Unmarshal(b.Bytes(), answer); err != nil {
			c.t.Fatalf("%v: %s", err, b.String())
		}
	}
}

type prompt map[string]struct {
	Class  string         `json:"class_type"`
	Inputs map[string]any `json:"inputs"`
}

// apiWorkflow reads a workflow of the package.
func apiWorkflow(t *testing.T, name string) (p prompt) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(comfyuiFolder(t), "api_workflows", name))
	if err == nil {
		err = json.Unmarshal(text, &p)
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (c *realComfyUI) send(p prompt) (id string) {
	c.t.Helper()
	var sent struct {
		ID string `json:"prompt_id"`
	}
	c.call("POST", "/prompt", map[string]any{"prompt": p}, &sent)
	return sent.ID
}

// executed is what ComfyUI's history says of a prompt.
type executed struct {
	Status struct {
		Status   string            `json:"status_str"`
		Messages []json.RawMessage `json:"messages"`
	} `json:"status"`
	Outputs map[string]struct {
		Images []struct {
			Filename string `json:"filename"`
		} `json:"images"`
		Text []string `json:"text"`
	} `json:"outputs"`
}

// wait waits for the end of a prompt.
func (c *realComfyUI) wait(id string) (e executed) {
	c.t.Helper()
	waitUntil(c.t, func() (ok bool) {
		var history map[string]executed
		c.call("GET", "/history/"+id, nil, &history)
		e, ok = history[id]
		return ok
	})
	return e
}

// said reports whether a text is in the messages, in JSON.
func (e executed) said(what string) bool {
	return slices.ContainsFunc(e.Status.Messages, func(m json.RawMessage) bool { return bytes.Contains(m, []byte(what)) })
}

// video checks the file that a node saved.
func (c *realComfyUI) video(e executed, node, frames string) {
	c.t.Helper()
	files := e.Outputs[node].Images
	if len(files) != 1 {
		c.t.Errorf("node %s saved %+v", node, files)
		return
	}
	m, err := probe(filepath.Join(c.dir, "output", files[0].Filename))
	if err != nil {
		c.t.Error(err)
		return
	}
	if f := m.facts(); f["frames"] != frames || f["audio"] == "" {
		c.t.Errorf("node %s saved a video with %+v", node, f)
	}
}

// TestRealComfyUI runs the nodes in ComfyUI itself, with its own page in Chromium.
func TestRealComfyUI(t *testing.T) {
	needComfyUI(t)
	dir := t.TempDir()
	d := startDaemon(t, dir, "serve", "--listen", "127.0.0.1:0", "--data", filepath.Join(dir, "data"), "--slots", "1")
	server := d.address("http://")
	c := startComfyUI(t, "LIPSTREAM_SERVER="+server)

	t.Run("frames", func(t *testing.T) {
		p := apiWorkflow(t, "lipstream.json")
		p["6"] = prompt{"6": {"SaveImage", map[string]any{"images": []any{"3", 0}, "filename_prefix": "frame"}}}["6"]
		e := c.wait(c.send(p))
		if e.Status.Status != "success" {
			t.Fatalf("%s", e.Status.Messages)
		}
		_, video := asFrames(t, dir, "portrait", in("portrait.png"), 1, 512, 512)
		lipstreamCommand(t, dir, "run", "--video", video, "--audio", in("speech.wav"), "-o", "example.mkv", "--engine", "preview", "--codec", "ffv1", "--length", "pingpong", "--fps", "25", "-q")
		want := rgbFrames(t, filepath.Join(dir, "example.mkv"))
		var got []string
		for _, i := range e.Outputs["6"].Images {
			got = append(got, rgbFrames(t, filepath.Join(c.dir, "output", i.Filename))...)
		}
		if len(want) < 100 || !slices.Equal(got, want) {
			t.Errorf("%d frames, want %d of run", len(got), len(want))
		}
		t.Logf("%d frames, the same as run's", len(got))
		c.video(e, "5", "151")
	})
	t.Run("files", func(t *testing.T) {
		e := c.wait(c.send(apiWorkflow(t, "lipstream_run.json")))
		if e.Status.Status != "success" || len(e.Outputs["2"].Text) != 1 {
			t.Fatalf("%+v %s", e.Outputs, e.Status.Messages)
		}
		c.video(e, "1", "151")
		if text := e.Outputs["2"].Text[0]; !strings.HasPrefix(text, "host: ") {
			t.Errorf("memory: %q", text)
		}
	})
	t.Run("cancel", func(t *testing.T) {
		p := apiWorkflow(t, "lipstream.json")
		p["2"].Inputs["audio"], p["3"].Inputs["seed"] = "long.wav", 3
		id := c.send(p)
		running := func(want bool) {
			t.Helper()
			waitUntil(t, func() bool {
				list := lipstreamCommand(t, dir, "jobs", "--server="+server)
				return strings.Contains(list, "running") == want && !strings.Contains(list, "cancelled")
			})
		}
		running(true)
		c.call("POST", "/interrupt", map[string]any{}, nil)
		e := c.wait(id)
		if !e.said("execution_interrupted") {
			t.Errorf("%s", e.Status.Messages)
		}
		running(false)
	})
	t.Run("error", func(t *testing.T) {
		p := apiWorkflow(t, "lipstream.json")
		p["3"].Inputs["engine"] = "latentsync"
		if e := c.wait(c.send(p)); !e.said(`has no checkpoint for latentsync\nrun there: lipstream models pull`) {
			t.Errorf("%s", e.Status.Messages)
		}
	})
	t.Run("page", func(t *testing.T) { c.page(t) })
}

// page loads every example in ComfyUI's page, and runs one there.
func (c *realComfyUI) page(t *testing.T) {
	b := openTab(t)
	b.look(1500, 900, "dark")
	b.do(chromedp.Navigate(c.url + "/"))
	b.see(`window.app?.vueAppReady && window.app.graph`)
	b.do(chromedp.Sleep(4*time.Second), chromedp.KeyEvent("\x1b")) // the templates, which open by themselves
	// load opens an example and gives its nodes' widgets, by class; change may be nil.
	load := func(name string, change func([]byte) []byte) (widgets map[string]json.RawMessage) {
		text, err := os.ReadFile(filepath.Join(comfyuiFolder(t), "example_workflows", name))
		if err != nil {
			t.Fatal(err)
		}
		if change != nil {
			text = change(text)
		}
		ask[int](b, fmt.Sprintf(`app.loadGraphData(%s, true, true, %q).then(() => 0)`, text, strings.TrimSuffix(name, ".json")))
		b.do(chromedp.Sleep(time.Second), chromedp.KeyEvent("\x1b")) // what it says of nodes that are not installed
		if err := json.Unmarshal([]byte(ask[string](b, `JSON.stringify(Object.fromEntries(app.graph.nodes.map(n =>
			[n.type, Object.fromEntries((n.widgets ?? []).map(w => [w.name, w.value]))])))`)), &widgets); err != nil {
			t.Fatal(err)
		}
		return widgets
	}
	const latentSync = `{"seed":%d,"control_after_generate":"%s","lips_expression":1.5,"inference_steps":20,"engine":"auto","profile":"auto","memory_limit_gb":0,"fps":25,"server":""}`
	older := func(text []byte) []byte { // as the wrapper's own example has it
		return regexp.MustCompile(`(?s)1247,\s*"randomize",\s*1.5,\s*20\s*\]`).ReplaceAll(text, []byte(`1331, "randomize"]`))
	}
	for _, c := range []struct {
		name   string
		change func([]byte) []byte
		want   map[string]string
	}{
		{"latentsync_wrapper.json", nil, map[string]string{
			"LatentSyncNode":      fmt.Sprintf(latentSync, 1247, "randomize"),
			"VideoLengthAdjuster": `{"mode":"pingpong","fps":25,"silent_padding_sec":0.5}`,
		}},
		{"latentsync_wrapper.json", older, map[string]string{"LatentSyncNode": fmt.Sprintf(latentSync, 1331, "randomize")}},
		{"lipstream_run.json", nil, map[string]string{
			"LipstreamRun":    `{"video":"face.mp4","audio":"voice.wav","output_name":"lipstream.mp4","seed":1247,"control_after_generate":"fixed","lips_expression":1.5,"inference_steps":20,"length":"pad","engine":"auto","profile":"auto","memory_limit_gb":0,"fps":0,"server":""}`,
			"LipstreamMemory": `{"server":""}`,
		}},
		{"lipstream.json", nil, map[string]string{
			"LatentSyncNode": fmt.Sprintf(latentSync, 1247, "fixed"),
			"CreateVideo":    `{"fps":25}`,
		}},
	} {
		got := load(c.name, c.change)
		for node, values := range c.want {
			// The inputs that came later follow, at their defaults.
			if !strings.HasPrefix(string(got[node]), strings.TrimSuffix(values, "}")) {
				t.Errorf("%s, %s: %s\nwant %s", c.name, node, got[node], values)
			}
		}
	}
	if templates := ask[string](b, `fetch('/api/workflow_templates').then(r => r.text())`); !strings.Contains(templates, `"lipstream_run"`) || strings.Contains(templates, "api") {
		t.Errorf("templates: %s", templates)
	}
	ask[int](b, `window.seen = {}, ['progress', 'progress_text', 'b_preview_with_metadata', 'executed', 'execution_error', 'execution_success', 'execution_interrupted'].forEach(k =>
		app.api.addEventListener(k, e => { (seen[k] ??= []).push(e.detail?.text ?? e.detail?.value ?? 0) })), 0`)
	ask[int](b, `app.graph.nodes.find(n => n.type === 'LatentSyncNode').widgets[0].value = 11, app.queuePrompt(0), 0`)
	b.see(`seen.progress_text?.some(t => /^frame [1-9]\d* of 151, /.test(t))`, `seen.b_preview_with_metadata?.length > 0`)
	b.shoot("comfyui")
	b.see(`seen.execution_success || seen.execution_error || seen.execution_interrupted`)
	if bad := ask[string](b, `JSON.stringify([seen.execution_error, seen.execution_interrupted])`); bad != "[null,null]" {
		t.Errorf("the prompt ended with %s", bad)
	}
	if last := ask[string](b, `seen.progress_text.at(-1)`); !strings.HasPrefix(last, "151 frames in ") || !strings.Contains(last, " by preview, ") {
		t.Errorf("the last line is %q", last)
	}
	if !ask[bool](b, `seen.progress.every((v, i, all) => i === 0 || v >= all[i - 1] || v <= 1)`) {
		t.Error("the progress bar went back")
	}
	// Its button cancels.
	ask[int](b, `seen = {}, app.graph.nodes.find(n => n.type === 'LatentSyncNode').widgets[0].value = 12, app.queuePrompt(0), 0`)
	b.see(`seen.progress_text?.some(t => t.startsWith('frame '))`)
	ask[int](b, `app.api.interrupt(), 0`)
	b.see(`seen.execution_interrupted`)
}

// TestRealComfyUIEnds ends ComfyUI in several ways: the server that the nodes
// started has to end as well.
func TestRealComfyUIEnds(t *testing.T) {
	needComfyUI(t)
	needRuntime(t)
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGKILL} {
		t.Run(s.String(), func(t *testing.T) {
			c := startComfyUI(t)
			p := apiWorkflow(t, "lipstream.json")
			p["2"].Inputs["audio"] = "long.wav"
			c.send(p)
			const url = "http://127.0.0.1:8448"
			waitUntil(t, func() bool {
				out, err := exec.Command(binary, "jobs", "--server="+url).Output()
				return err == nil && strings.Contains(string(out), "running")
			})
			if err := c.cmd.Process.Signal(s); err != nil {
				t.Fatal(err)
			}
			<-c.done
			waitUntil(t, func() bool { // the server ends
				conn, err := net.Dial("tcp", "127.0.0.1:8448")
				if err == nil {
					_ = conn.Close()
				}
				return err != nil
			})
		})
	}
}
