package e2e_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// TestPageEngine chooses MuseTalk on the page of a server that has its checkpoint, but not
// that of LatentSync.
func TestPageEngine(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	makeHome(t, dir)
	lipstreamCommand(t, dir, "models", "synth", "--engine", "musetalk", "--size", "tiny", "--dir", filepath.Join(dir, ".cache", "lipstream", "models"))
	d := startDaemon(t, dir, "serve", "--listen", "127.0.0.1:0", "--data", filepath.Join(dir, "data"), "--slots", "1")
	b := openTab(t)
	b.look(1280, 1400, "light")
	b.do(chromedp.Navigate(d.address("http://") + "/"))
	const choice = `document.getElementById('setting-engine')`
	b.see(choice + `?.options.length === 4`)
	if got := ask[string](b, `[...`+choice+`.options].map(o => o.text + (o.disabled ? '!' : '')).join(' ')`); got != "auto preview musetalk latentsync (not available)!" {
		t.Errorf("the engines are %s", got)
	}
	if got := ask[string](b, `document.getElementById('engines-missing').textContent`); !strings.HasPrefix(got, "Not available: latentsync (lipstream models pull 1.6). ") {
		t.Errorf("of missing engines the page says %q", got)
	}
	for _, box := range []string{"basic", "advanced"} {
		if got := ask[string](b, `[...document.querySelectorAll('#`+box+` legend')].map(l => l.textContent).join(' ')`); got != "Networks LatentSync Memory" {
			t.Errorf("the headings of the %s settings are %s", box, got)
		}
	}
	b.do(files("#video-file", in("portrait.png")), files("#audio-file", in("short.wav")))
	b.see(`document.getElementById('estimate').textContent.startsWith('Estimate: 10 frames with musetalk synthetic, about')`)
	ask[int](b, choice+`.value = 'musetalk', `+choice+`.dispatchEvent(new Event('change', { bubbles: true })), 0`)
	b.see(`document.getElementById('setting-engine-help').textContent.startsWith('Fast; generates a new mouth with MuseTalk')`,
		`!document.getElementById('start').disabled`)
	b.accessible("the form with MuseTalk")
	b.do(click("#start"))
	b.see(`document.querySelector('#jobs li.done')?.textContent.includes('with short.wav, musetalk synthetic')`,
		`[...document.querySelectorAll('#jobs li.done video')].some(v => v.readyState > 0)`)
	ask[int](b, `document.querySelector('details:has(#advanced)').open = true, 0`)
	b.accessible("the result of MuseTalk")
	b.shoot("musetalk")
}
