package e2e_test

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// TestPageInputs checks the page with files that are dropped and pasted, a broken
// connection, a job that fails, little free memory, and the keyboard alone.
func TestPageInputs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	blank := filepath.Join(dir, "blank.png")
	if out, err := exec.CommandContext(t.Context(), "ffmpeg", "-v", "error", "-f", "lavfi", "-i", "color=gray:s=320x240", "-frames:v", "1", blank).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	d := startDaemon(t, dir, "serve", "--listen", "127.0.0.1:0", "--data", filepath.Join(dir, "data"), "--slots", "1", "--memory-warning", "1%", "--memory-alert", "99%")
	b := openTab(t)
	b.look(1280, 900, "light")
	b.do(chromedp.Navigate(d.address("http://") + "/"))
	b.see(`document.querySelectorAll('#setting-engine option').length === 4`)
	ask[int](b, `window.broken = []; document.addEventListener('securitypolicyviolation', e => broken.push(e.violatedDirective + ' ' + e.blockedURI)); 0`)

	// Through all controls by Tab.
	var path []string
	for range 30 {
		b.do(chromedp.KeyEvent("\t"))
		at := ask[string](b, `document.activeElement.id || document.activeElement.className || document.activeElement.tagName.toLowerCase()`)
		if at == "body" {
			break
		}
		path = append(path, at)
	}
	path = slices.Compact(path) // a file input may be two stops, and two summaries look the same
	if got, want := strings.Join(path, " "), "skip video-file audio-file record add-speaker add-soundtrack setting-engine setting-fps setting-length setting-face setting-seed setting-profile setting-steps setting-guidance setting-memory_limit summary"; got != want {
		t.Errorf("by Tab: %s; want %s", got, want)
	}

	// Further voices get faces that have none yet, and a face with two is marked.
	b.do(click("#add-speaker"), click("#add-speaker"))
	b.see(`document.getElementById('extra-1-who').value === 'left'`, `document.getElementById('extra-2-who').value === 'right'`, `document.getElementById('extra-2-twice').hidden`)
	ask[int](b, `(() => { const who = document.getElementById('extra-2-who'); who.value = 'left'; who.dispatchEvent(new Event('change')); return 0 })()`)
	b.see(`!document.getElementById('extra-2-twice').hidden`, `document.getElementById('extra-2-who').ariaInvalid === 'true'`, `document.getElementById('extra-1-twice').hidden`)
	b.do(files("#extra-1", blank))
	b.see(`document.getElementById('form-error').textContent.includes('has no sound')`)
	ask[int](b, `document.querySelectorAll('#extras button').forEach(x => x.click()), 0`)
	b.see(`document.getElementById('extras').children.length === 0`)

	// Less memory is free than the operator asks for.
	b.see(`document.getElementById('alert').textContent.startsWith('Memory warning: This machine')`, `!document.getElementById('alert').hidden`)
	b.do(click("details:has(#readings) summary"))
	b.see(`document.querySelectorAll('#readings tbody tr').length > 0`)

	// A silent voice of 20 MB is dropped; the network breaks at its second piece.
	// When another file replaces it, the server deletes it.
	ask[int](b, `window.sent = []; window.real = window.fetch; window.fetch = (path, init) => {
		const how = init?.method ?? 'GET'
		if (String(path).startsWith('/v1/uploads')) {
			sent.push(how)
			if (how === 'PATCH' && sent.filter(x => x === 'PATCH').length === 2) return Promise.reject(new TypeError('network'))
		}
		return real(path, init)
	}; 0`)
	ask[int](b, `(() => {
		const n = 20_000_000, v = new DataView(new ArrayBuffer(44 + n))
		const text = (at, s) => [...s].forEach((c, i) => v.setUint8(at + i, c.charCodeAt(0)))
		text(0, 'RIFF'); v.setUint32(4, 36 + n, true); text(8, 'WAVEfmt '); v.setUint32(16, 16, true); v.setUint16(20, 1, true); v.setUint16(22, 2, true)
		v.setUint32(24, 48000, true); v.setUint32(28, 192000, true); v.setUint16(32, 4, true); v.setUint16(34, 16, true); text(36, 'data'); v.setUint32(40, n, true)
		const files = new DataTransfer()
		files.items.add(new File([v.buffer], 'stille (ü).wav', { type: 'audio/wav' }))
		document.querySelector('.drop[data-kind=audio]').dispatchEvent(new DragEvent('drop', { dataTransfer: files, bubbles: true, cancelable: true }))
		return 0
	})()`)
	b.see(`document.getElementById('audio-state').textContent === 'stille (ü).wav: 1 min 44 s, 19.1 MiB'`)
	if got := ask[string](b, `sent.join(' ')`); got != "POST PATCH PATCH HEAD PATCH PATCH GET" {
		t.Errorf("an upload over a broken network: %s", got)
	}
	large := ask[string](b, `document.querySelector('#audio-thumb audio').src`)
	b.do(files("#audio-file", in("two.wav")))
	b.see(`document.getElementById('audio-state').textContent.startsWith('two.wav: 2 s')`)
	if status := ask[int](b, `real('`+large+`').then(r => r.status)`); status != 404 {
		t.Errorf("the replaced file still exists on the server: %d", status)
	}

	// A picture without a face is pasted: its job fails with a hint.
	b.do(files("#video-file", blank))
	b.see(`document.querySelector('#video-thumb img')`)
	ask[int](b, `real(document.querySelector('#video-thumb img').src).then(r => r.blob()).then(blob => {
		const files = new DataTransfer()
		files.items.add(new File([blob], 'pasted.png', { type: 'image/png' }))
		document.dispatchEvent(new ClipboardEvent('paste', { clipboardData: files, bubbles: true }))
		return 0
	})`)
	b.see(`document.getElementById('video-state').textContent.startsWith('pasted.png: 320 by 240')`, `!document.getElementById('start').disabled`)

	// A mask is an input that may be taken away again.
	ask[int](b, `document.querySelector('#form details').open = true; 0`)
	b.see(`document.getElementById('mask-remove').hidden`)
	b.do(files("#mask-file", in("two.wav")))
	b.see(`document.getElementById('form-error').textContent.includes('two.wav has no picture')`)
	b.do(files("#mask-file", blank))
	b.see(`document.getElementById('mask-state').textContent.startsWith('blank.png: 320 by 240')`, `document.querySelector('#mask-thumb img')`, `!document.getElementById('start').disabled`)
	b.do(click("#mask-remove"))
	b.see(`document.getElementById('mask-state').textContent === ''`, `document.getElementById('mask-remove').hidden`, `document.activeElement.id === 'mask-file'`)
	b.do(files("#mask-file", blank))
	b.see(`document.getElementById('mask-state').textContent.startsWith('blank.png')`)
	b.accessible("a mask")
	b.do(enter("#start"))
	b.see(`document.querySelector('#jobs li.failed .error')?.textContent.includes(' — ')`)
	if said := ask[string](b, `document.getElementById('news').textContent`); !strings.HasPrefix(said, "pasted-lipstream.mp4: Failed. find a face in pasted.png: ") {
		t.Errorf("a screen reader hears %q", said)
	}
	if name := ask[string](b, `real('/v1/jobs').then(r => r.json()).then(r => r.jobs[0].mask?.name ?? 'none')`); name != "blank.png" {
		t.Errorf("the mask of the job is %s", name)
	}
	b.accessible("a failed job")
	b.shoot("failed")
	if got := ask[string](b, `broken.join('; ')`); got != "" {
		t.Errorf("against the content security policy: %s", got)
	}
}
