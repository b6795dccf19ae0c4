/**
 * The process that makes text of one uploaded file (text-converter.ts has its other end): bytes come in on stdin, UTF-8 goes out on stdout.
 * Exit code 1: the file is at fault, 2: it takes too much; stderr says why.
 *
 * JavaScript, so that Node runs this file where it is, in the sources and beside the built package.
 */
import { buffer } from 'node:stream/consumers';
import { Worker } from 'node:worker_threads';
import { ArchiveLimitError, textOfArchive } from './text-of-archive.js';

const [kind, memoryBytes] = process.argv.slice(2);

// V8's own limit leaves out byte arrays, which is where a PDF unfolds. By a thread of its own: this one may be busy for long.
const guard = `
  const { workerData } = require('node:worker_threads');
  setInterval(() => process.memoryUsage.rss() > workerData && process.kill(process.pid, 'SIGKILL'), 20);
`;
new Worker(guard, { eval: true, workerData: Number(memoryBytes) }).unref();

// A terminal sends it to the whole group; what is to end is the parent's decision.
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => {});

try {
  const bytes = await buffer(process.stdin);
  process.stdout.write(await textOf(kind, bytes));
} catch (error) {
  process.stderr.write(error instanceof Error ? error.message : String(error));
  process.exitCode = error instanceof ArchiveLimitError ? 2 : 1;
}

/** @param {string | undefined} kind @param {Buffer} bytes @returns {Promise<string>} */
async function textOf(kind, bytes) {
  if (kind === 'pdf') return await textOfPdf(bytes);
  if (kind === 'html') return await textOfHtml(bytes);
  return await textOfArchive(/** @type {'zip' | 'tar' | 'tgz'} */ (kind), bytes);
}

/** @param {Uint8Array} bytes @returns {Promise<string>} */
async function textOfPdf(bytes) {
  const { extractText, getDocumentProxy } = await import('unpdf'); // takes half a second
  const pdf = await getDocumentProxy(new Uint8Array(bytes), { verbosity: 0, isEvalSupported: false });
  const { text } = await extractText(pdf, { mergePages: false });
  return text.join('\n\n');
}

/** @param {Uint8Array} bytes @returns {Promise<string>} */
async function textOfHtml(bytes) {
  const { convert } = await import('html-to-text');
  const html = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  return convert(html, {
    wordwrap: false,
    limits: { maxInputLength: html.length },
    selectors: [
      { selector: 'a', options: { ignoreHref: true } },
      { selector: 'img', format: 'skip' },
      { selector: 'script', format: 'skip' },
      { selector: 'style', format: 'skip' },
      ...['h1', 'h2', 'h3', 'h4', 'h5', 'h6'].map((selector) => ({ selector, options: { uppercase: false } })),
    ],
  });
}
