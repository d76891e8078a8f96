// Writes the golden file of internal/audio's viseme front-end: MFCC vectors,
// log energies, gate states, distances and voted visemes, computed by the
// original JavaScript of npm @met4citizen/headaudio (MIT).
//
//   npm pack @met4citizen/headaudio@0.1.0 && tar xf met4citizen-headaudio-0.1.0.tgz
//   node tools/viseme-golden/main.mjs ./package speech16k.wav [every] > viseme.golden.json
//
// The WAV must be 16 kHz mono 16-bit PCM. Blocks have 512 samples and a hop of 160, as in
// internal/audio. Only every n-th block is written (default 7), to keep the file small,
// but all of them pass through the stateful parts.
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";

const [dir, wavPath, everyArg] = process.argv.slice(2);
if (!wavPath) {
  console.error("usage: main.mjs <package dir> <16 kHz mono wav> [every]");
  process.exit(2);
}
const every = Number(everyArg || 7);
const load = (p) => import(pathToFileURL(resolve(dir, "modules", p)).href);
const { Processor } = await load("processor.mjs");
const { Training } = await load("training.mjs");

// Model
const bin = readFileSync(resolve(dir, "dist", "model-en-mixed.bin"));
const buffer = bin.buffer.slice(bin.byteOffset, bin.byteOffset + bin.byteLength);
const model = [];
const training = new Training();
const LEN = 92;
for (let pos = 0; pos + LEN * 4 <= buffer.byteLength; pos += LEN * 4) {
  model.push(training.decodeBinaryRecord(new Float32Array(buffer, pos, LEN)));
}

// Samples
const wav = readFileSync(wavPath);
let at = 12;
while (wav.toString("latin1", at, at + 4) !== "data") at += 8 + wav.readUInt32LE(at + 4);
const n = wav.readUInt32LE(at + 4) / 2;
const samples = new Float32Array(n);
for (let i = 0; i < n; i++) samples[i] = wav.readInt16LE(at + 8 + 2 * i) / 32768;

// The processor classifies only while its gate is open. All blocks are needed, so
// classification is not gated (vadMode 0), and the gate is run separately.
const blocks = [];
const processor = new Processor({ sampleRate: 16000, samplesHop: 160, parameterData: { vadMode: 0 } });
processor._onmessage({ data: { event: "model", model, reset: true } });
const compute = processor.mfcc.compute.bind(processor.mfcc);
let le = 0;
processor.mfcc.compute = (b, out) => { const r = compute(b, out); le = r.le; return r; };
const predict = processor.classifier.predict.bind(processor.classifier);
processor.classifier.predict = (v) => {
  const r = predict(v);
  const gate = processor.vadGate.process(le);
  blocks.push({ le, mfcc: Array.from(v), active: gate.active > 0, viseme: processor.classifier.predictionLast, distances: [...r.distances] });
  return r;
};
processor.process(samples);

const round = (x, d = 6) => Number(x.toPrecision(d));
console.log(JSON.stringify({
  source: "@met4citizen/headaudio 0.1.0",
  hop: 160,
  blocks: blocks.length,
  visemes: blocks.map((b) => b.viseme),
  active: blocks.map((b) => (b.active ? 1 : 0)),
  every,
  le: blocks.filter((_, i) => i % every === 0).map((b) => round(b.le)),
  mfcc: blocks.filter((_, i) => i % every === 0).map((b) => b.mfcc.map((x) => round(x))),
  distances: blocks.filter((_, i) => i % every === 0).map((b) => b.distances.map((x) => round(x))),
}));
