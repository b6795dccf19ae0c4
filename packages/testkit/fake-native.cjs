// A small native binary in JavaScript, for what no test machine has: devices that are there, that refuse, and that are lost. It is loaded where
// CTKVR_NATIVE_PATH names it, through the real loader. Its "model" says the alphabet; tokens are bytes. Errors are thrown as the real one throws
// them, and what is on a lost device cannot be used any more.
const { readFileSync, writeFileSync } = require('node:fs');

/** What tests in this process change; a child process gets it as JSON in CTKVR_FAKE_NATIVE. */
const control = {
  /** What listDevices returns; null: this binary has no such function (only where set from the environment). */
  devices: {
    devices: [],
    reason: "no CUDA driver: its library (libcuda.so.1, nvcuda.dll) is not found. Install NVIDIA's driver",
  },
  /** Names of devices that refuse every model, and with what. */
  refusals: {},
  /** The step, from 1, of any model on a device from which on the device is lost; 0: never. */
  loseAtStep: 0,
  /** Milliseconds of a step, so that a test can do something while one runs. */
  stepMs: 0,
  /** Options of every load so far. */
  loads: [],
  ...JSON.parse(process.env.CTKVR_FAKE_NATIVE || '{}'),
};

const PAGE_SIZE = 256;
const KV_BYTES_PER_TOKEN = 128;
const END_OF_TURN = 256;
const timings = { totalMs: 1, linearMs: 1, retrievalMs: 0, attentionMs: 0, samplingMs: 0, indexMs: 0 };

function failure(code, message, fields = {}) {
  return new Error(JSON.stringify({ code, message, fields }));
}

function kvBytes(numTokens) {
  return Math.ceil(numTokens / PAGE_SIZE) * PAGE_SIZE * KV_BYTES_PER_TOKEN;
}

class Sequence {
  constructor(model, options, tokens = []) {
    Object.assign(this, { id: ++model.lastId, model, options, tokens });
    Object.assign(this, { indexedRange: { start: 0, end: 0 }, numRecentQueries: 0 });
  }
  get length() {
    return this.tokens.length;
  }
  get memory() {
    return { kvBytes: kvBytes(this.tokens.length), indexBytes: 0 };
  }
  fork() {
    this.model.checkDevice();
    return new Sequence(this.model, this.options, [...this.tokens]);
  }
  truncate(length) {
    this.model.checkDevice();
    this.tokens.length = length;
  }
  setSelector(selector) {
    this.options = { ...this.options, selector };
  }
  setSampler() {}
  async buildIndex() {
    this.model.checkDevice();
    return { buildMs: 0, headsLeft: 0, indexBytes: 0, indexedTokens: 0 };
  }
  async save(path, notes = '') {
    this.model.checkDevice();
    const text = JSON.stringify({ tokens: this.tokens, options: this.options, notes });
    writeFileSync(path, text);
    return { bytes: text.length };
  }
  close() {
    this.tokens = [];
  }
}

class Model {
  constructor(path, options) {
    Object.assign(this, { path, numThreads: 1, device: options.device ?? 'cpu', lastId: 0, numSteps: 0, lost: false });
  }
  get info() {
    return {
      path: this.path,
      name: 'fake',
      architecture: 'llama',
      unsupportedReason: null,
      sizeBytes: 1,
      numParameters: 1,
      quantisation: 'F16',
      numLayers: 1,
      numQueryHeads: 2,
      numKvHeads: 1,
      headDim: 32,
      embeddingLength: 64,
      vocabSize: 257,
      trainedContext: 8192,
      ropeFreqBase: 1e4,
      ropeScaling: 'none',
      kvBytesPerToken: KV_BYTES_PER_TOKEN,
      chatTemplate: '{% for message in messages %}{{ message.content }}\n{% endfor %}',
      bosTokenId: null,
      addBos: false,
      eosTokenId: END_OF_TURN,
      endOfGenerationTokenIds: [END_OF_TURN],
      controlTokens: [],
    };
  }
  checkDevice() {
    if (!this.lost) return;
    const message =
      'the device is lost: driver error 719 in an earlier call. What was on the device is lost; load the model again';
    throw failure('CTKVR_DEVICE_LOST', message);
  }
  async tokenize(text) {
    return Int32Array.from(Buffer.from(text));
  }
  tokenBytes(tokenId) {
    return tokenId < END_OF_TURN ? Uint8Array.of(tokenId) : new Uint8Array();
  }
  createSequence(options) {
    return new Sequence(this, options);
  }
  async restoreSequence(path) {
    this.checkDevice();
    const { tokens, options, notes } = JSON.parse(readFileSync(path, 'utf8'));
    const { maxTokens, kvFormat = 'f16', selector } = options;
    const sequence = new Sequence(this, options, tokens);
    return { sequence, maxTokens, kvFormat, selector, notes, sameArithmetic: true };
  }
  async step(plan) {
    await new Promise((resolve) => (control.stepMs > 0 ? setTimeout(resolve, control.stepMs) : setImmediate(resolve)));
    this.numSteps += 1;
    if (this.device !== 'cpu' && control.loseAtStep > 0 && this.numSteps >= control.loseAtStep) this.lost = true;
    this.checkDevice();
    const sequences = plan.map(({ sequence, tokens, output }) => {
      sequence.tokens.push(...tokens);
      const tokenId = /sample/i.test(output) ? 97 + (sequence.tokens.length % 26) : null;
      return { tokenId, logits: null, counters: null };
    });
    return { sequences, timings };
  }
  kvUsage() {
    return { pages: 0, bytes: 0, sharedPages: 0, budgetBytes: null };
  }
  cancel() {}
  async close() {}
}

module.exports = {
  control,
  CentroidIndex: class CentroidIndex {},
  Model,
  Sequence,
  buildInfo: () => ({
    version: '0.1.0',
    isa: 'scalar',
    availableIsas: ['scalar'],
    ggmlFeatures: [],
    numUsableThreads: 1,
    availableMemoryBytes: 1e9,
    pageSize: PAGE_SIZE,
  }),
  kernelTables: () => [{ name: 'scalar', missing: [] }],
  testKernels: () => null,
  allowKernels: () => {},
  allowedKernels: () => null,
  fastestKernels: () => 'scalar',
  processMemory: () => ({ rssBytes: 1, peakRssBytes: 1 }),
  inspectModel: async (path) => new Model(path, {}).info,
  memoryNeed: ({ contextLength, numTokens = contextLength }) => ({ kvBytes: kvBytes(numTokens), indexBytes: 0 }),
  async loadModel(path, options) {
    control.loads.push(options);
    const refusal = control.refusals[options.device ?? 'cpu'];
    if (refusal !== undefined) throw failure(refusal.code, refusal.message);
    return new Model(path, options);
  },
  ...(control.devices === null ? {} : { listDevices: () => control.devices }),
};
