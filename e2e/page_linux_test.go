package e2e_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"

	"github.com/lipstream/lipstream/internal/backend/backendtest"
)

// tab is a tab of Chromium.
type tab struct {
	t   *testing.T
	ctx context.Context
}

type step = chromedp.Action[chromedp.Void]

// openTab starts Chromium with an empty page.
func openTab(t *testing.T) *tab {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv(backendtest.RequireVariable) != "" {
			t.Fatal("chromium is not installed: apt-get install chromium")
		}
		t.Skip("chromium is not installed")
	}
	allocator, stop := chromedp.NewExecAllocator(t.Context(), append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.Flag("disable-dev-shm-usage", true),
		chromedp.Flag("use-fake-device-for-media-stream", true), chromedp.Flag("use-fake-ui-for-media-stream", true))...)
	t.Cleanup(stop)
	ctx, cancel := chromedp.NewContext(allocator)
	t.Cleanup(cancel)
	b := &tab{t, ctx}
	if err := chromedp.Do(ctx); err != nil {
		t.Fatal(err)
	}
	return b
}

// do runs steps; a failure ends the test with a screenshot.
func (b *tab) do(steps ...step) {
	b.t.Helper()
	for i, s := range steps {
		if err := chromedp.Do(b.ctx, s); err != nil {
			b.fail(fmt.Sprintf("step %d: %v", i, err))
		}
	}
}

func (b *tab) fail(why string) {
	b.t.Helper()
	shot, _ := chromedp.Run(b.ctx, chromedp.FullScreenshot(80))
	text, _ := chromedp.Run(b.ctx, chromedp.Evaluate[string]("document.body.innerText"))
	b.t.Fatalf("%s; picture %s; the page says:\n%s", why, keepPicture(b.t, "failed", shot), text)
}

// ask evaluates an expression; of a promise, it returns the result.
func ask[T any](b *tab, expression string) T {
	b.t.Helper()
	v, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		b.fail(expression + ": " + err.Error())
	}
	return v
}

// see waits until an expression is true.
func (b *tab) see(expressions ...string) {
	b.t.Helper()
	for _, e := range expressions {
		waitUntil(b.t, func() bool { return ask[bool](b, "!!("+e+")") })
	}
}

// look sets the size and the colour scheme of the page.
func (b *tab) look(width, height int64, scheme string) {
	b.t.Helper()
	b.do(chromedp.EmulateViewport(width, height), chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
			{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}}})
		return err
	}))
	ask[int](b, `new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(0))))`)
}

func click(css string) step      { return chromedp.Click(chromedp.CSS(css)) }
func keys(css, text string) step { return chromedp.SendKeys(chromedp.CSS(css), text) }
func files(css string, path string) step {
	return chromedp.SetUploadFiles(chromedp.CSS(css), []string{path})
}
func enter(css string) step {
	return chromedp.Steps(chromedp.Focus(chromedp.CSS(css)), chromedp.KeyEvent("\r"))
}

// keepPicture writes a screenshot into the folder LIPSTREAM_SCREENSHOTS and
// returns its path, or "" if the variable is not set.
func keepPicture(t *testing.T, name string, shot []byte) string {
	dir := os.Getenv("LIPSTREAM_SCREENSHOTS")
	if dir == "" || len(shot) == 0 {
		return ""
	}
	path := filepath.Join(dir, "web-"+name+".png")
	if err := os.WriteFile(path, shot, 0o644); err != nil {
		t.Error(err)
	}
	return path
}

// shoot keeps a screenshot of the whole page.
func (b *tab) shoot(name string) {
	b.t.Helper()
	shot, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
	if err != nil {
		b.t.Fatal(err)
	}
	keepPicture(b.t, name, shot)
}

// accessible runs axe-core over the page.
func (b *tab) accessible(what string) {
	b.t.Helper()
	axe, err := os.ReadFile("testdata/axe.min.js")
	if err != nil {
		b.t.Fatal(err)
	}
	ask[int](b, string(axe)+";0")
	found := ask[string](b, `axe.run().then(r => JSON.stringify(r.violations.map(v => ({id: v.id, help: v.help, nodes: v.nodes.map(n => n.html.slice(0, 200))}))))`)
	if found != "[]" {
		b.t.Errorf("axe-core on %s: %s", what, found)
	}
	if ask[bool](b, `document.documentElement.scrollWidth > innerWidth`) {
		b.t.Errorf("%s scrolls sideways", what)
	}
}

// TestPage uses the web page of a real server with a real worker: a job from two
// files to the player, with the keyboard, on a phone, in dark mode.
func TestPage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	token := filepath.Join(dir, "token")
	if err := os.WriteFile(token, []byte("a-token-for-the-page\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := startDaemon(t, dir, "serve", "--listen", "127.0.0.1:0", "--data", filepath.Join(dir, "data"), "--slots", "1", "--token-file", token)
	b := openTab(t)
	b.look(1280, 900, "light")
	// The token, wrong first.
	b.do(chromedp.Navigate(d.address("http://")+"/"), chromedp.WaitVisible(chromedp.CSS("#token-dialog")),
		keys("#token", "wrong\r"), chromedp.WaitVisible(chromedp.CSS("#token-error")))
	b.accessible("the token's dialog")
	ask[string](b, `document.getElementById('token').value = ''`)
	b.do(keys("#token", "a-token-for-the-page\r"))
	b.see(`!document.getElementById('token-dialog').open`, `document.querySelectorAll('#setting-engine option').length === 4`, `document.querySelectorAll('#charts svg').length > 0`)
	b.accessible("the empty page")
	// A file without sound is refused with a message.
	b.do(files("#audio-file", in("portrait.png")))
	b.see(`document.getElementById('form-error').textContent.includes('has no sound')`)
	b.do(files("#video-file", in("long.mp4")), files("#audio-file", in("long.wav")))
	b.see(`document.getElementById('estimate').textContent.startsWith('Estimate: 1500 frames with preview, about')`, `!document.getElementById('start').disabled`)
	b.shoot("new")
	// From here with the keyboard.
	b.do(enter("#start"))
	b.see(`document.querySelector('#jobs li.running progress')?.value > 0`, `document.querySelector('#jobs li.running img')?.naturalWidth > 0`)
	b.accessible("a job at work")
	b.shoot("running")
	b.do(chromedp.Reload())
	b.see(`document.querySelector('#jobs li.running progress')?.value > 0`)
	b.do(enter("#jobs li.running button"))
	b.see(`document.querySelector('#jobs li.cancelled')`, `document.querySelectorAll('#setting-engine option').length === 4`)
	// The microphone makes a voice; then a file in its place.
	b.do(files("#video-file", in("head.mp4")), click("#record"))
	b.see(`parseInt(document.getElementById('recorded').textContent) >= 1`)
	b.do(click("#record"))
	b.see(`document.getElementById('audio-state').textContent.startsWith('recording.')`)
	b.do(files("#audio-file", in("two.wav")))
	b.see(`document.getElementById('audio-state').textContent.startsWith('two.wav: 2 s')`, `document.getElementById('estimate').textContent.startsWith('Estimate: 50 frames')`)
	b.do(click("#start"))
	b.see(`document.querySelector('#jobs li.done')`,
		`document.querySelectorAll('#jobs li.done video').length === 2 && [...document.querySelectorAll('#jobs li.done video')].every(v => v.readyState > 0)`)
	// The players are synchronised.
	ask[float64](b, `document.querySelector('#jobs li.done video[aria-label=Result]').currentTime = 1`)
	b.see(`Math.abs(document.querySelector('#jobs li.done video[aria-label=Source]').currentTime - 1) < 0.2`)
	for _, label := range []string{"Source", "Result"} {
		if long := ask[float64](b, `document.querySelector('#jobs li.done video[aria-label=`+label+`]').duration`); long < 1.9 {
			t.Errorf("%s of %.1f s", label, long)
		}
	}
	b.see(`[...document.querySelectorAll("#jobs li.done video")].every(v => !v.seeking)`)
	b.accessible("the result")
	b.shoot("done")
	if size := ask[float64](b, `fetch(document.querySelector('#jobs li.done a').href).then(r => r.blob()).then(b => b.size)`); size < 1000 {
		t.Errorf("the download has %v bytes", size)
	}
	// Retry, cancel again, and remove.
	press := func(what, where string) {
		ask[int](b, `[...document.querySelectorAll('`+where+`')].find(b => b.textContent.startsWith('`+what+`')).click(), 0`)
	}
	press("Retry", "#jobs li.cancelled button")
	b.see(`document.querySelector('#jobs li.running, #jobs li.queued')`)
	press("Cancel", "#jobs li.running button, #jobs li.queued button")
	b.see(`document.querySelector('#jobs li.cancelled')`)
	press("Remove", "#jobs li.cancelled button")
	b.see(`document.querySelectorAll('#jobs li').length === 1`)
	for _, l := range []struct {
		name          string
		width, height int64
		scheme        string
	}{{"dark", 1280, 900, "dark"}, {"phone", 360, 740, "light"}, {"phone-dark", 360, 740, "dark"}} {
		b.look(l.width, l.height, l.scheme)
		b.accessible("the " + l.name + " page")
		b.shoot(l.name)
	}
	if log := d.stderr.String(); strings.Contains(log, "panic") || strings.Contains(log, "level=ERROR") {
		t.Errorf("the server's log:\n%s", log)
	}
}
