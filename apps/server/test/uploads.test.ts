/** Files that become documents, through the route that takes them. */
import { constants, deflateRawSync, deflateSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { createApp } from '../src/index.js';
import { type ConversionLimits, TextConverter } from '../src/uploads/text-converter.js';
import { EchoEngine } from './echo-engine.js';
import { FakeSessions } from './fake-sessions.js';

const MAX_BYTES = 50_000;

interface Answer {
  readonly name: string;
  readonly error: { readonly message: string; readonly param: string | null };
}

async function upload(
  file: string | Buffer,
  { name = 'a.txt', type = '', fields = {} as Record<string, string> } = {},
) {
  const engine = Object.assign(new EchoEngine(), { sessions: new FakeSessions() });
  const app = createApp({ engine, maxBodyBytes: MAX_BYTES });
  const form = new FormData();
  for (const [field, value] of Object.entries(fields)) form.set(field, value);
  form.set('file', new File([file], name, { type }));
  const response = await app.request('/v1/sessions', { method: 'POST', body: form });
  const body = (await response.json()) as Answer;
  return { status: response.status, body, error: body.error, text: engine.sessions.all.get('s1')?.text };
}

/** A gigabyte of spaces in a megabyte of zlib. */
function bytesThatUnfold(): Buffer {
  const piece = deflateRawSync(Buffer.alloc(2 ** 24, ' '), { finishFlush: constants.Z_FULL_FLUSH });
  return Buffer.concat([Buffer.from([0x78, 0x9c]), ...Array<Buffer>(64).fill(piece)]);
}

interface PdfOptions {
  readonly compressed?: boolean;
  /** In place of the text, compressed already. */
  readonly content?: Buffer;
}

/** A PDF of one page with one stream, as small as one can be. */
function pdf(text: string, { compressed = false, content }: PdfOptions = {}): Buffer {
  const stream = content ?? (compressed ? deflateSync(text, { level: 9 }) : Buffer.from(text));
  const filter = compressed || content ? '/Filter /FlateDecode ' : '';
  const objects = [
    '<< /Type /Catalog /Pages 2 0 R >>',
    '<< /Type /Pages /Kids [3 0 R] /Count 1 >>',
    '<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>',
    `<< ${filter}/Length ${stream.length} >>\nstream\n${stream.toString('latin1')}\nendstream`,
    '<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>',
  ];
  let file = '%PDF-1.4\n';
  const offsets = objects.map((object, index) => {
    const offset = file.length;
    file += `${index + 1} 0 obj\n${object}\nendobj\n`;
    return offset;
  });
  const table = offsets.map((offset) => `${String(offset).padStart(10, '0')} 00000 n \n`).join('');
  const end = `trailer\n<< /Size 6 /Root 1 0 R >>\nstartxref\n${file.length}\n%%EOF\n`;
  return Buffer.from(`${file}xref\n0 6\n0000000000 65535 f \n${table}${end}`, 'latin1');
}

const line = (text: string) => `BT /F1 12 Tf 72 720 Td (${text}) Tj ET`;

describe('what becomes text', () => {
  test.each([
    ['a.txt', 'text/plain'],
    ['a.md', ''],
    ['notes', 'application/octet-stream'],
  ])('%s (%s) as it is, without its byte order mark', async (name, type) => {
    const { status, text, body } = await upload('\ufeff# Häuser <b>\n', { name, type });
    expect([status, text, body.name]).toEqual([202, '# Häuser <b>\n', name]);
  });

  test.each([
    ['page.html', ''],
    ['page', 'text/html; charset=utf-8'],
    ['page', ''],
  ])('HTML, by name, type or beginning (%s, %s): its text, no scripts', async (name, type) => {
    const html =
      '<!doctype html><html><head><title>t</title><style>p{}</style></head><body><h1>Loomings</h1>' +
      '<p>Call me <a href="https://example.org/">Ishmael</a> &amp; co.</p><script>steal()</script></body></html>';
    const { text } = await upload(html, { name, type });
    expect(text).toBe('Loomings\n\nCall me Ishmael & co.');
  });

  test('PDF, by its first bytes', async () => {
    for (const compressed of [false, true]) {
      const { status, text } = await upload(pdf(line('Call me Ishmael.'), { compressed }), { name: 'a.txt' });
      expect([status, text]).toEqual([202, 'Call me Ishmael.']);
    }
  });

  test('the name that the form gives goes before the file’s, and a file’s name loses its path', async () => {
    expect((await upload('a', { fields: { name: 'a book' } })).body.name).toBe('a book');
    expect((await upload('a', { name: '..\\..\\b\u0007.txt' })).body.name).toBe('b.txt');
  });
});

describe('what is refused', () => {
  test.each([
    ['not UTF-8', Buffer.from([0x61, 0xff, 0x62]), 400, /UTF-8/],
    ['UTF-16', Buffer.from('Call me', 'utf16le'), 415, /binary file/],
    ['a damaged ZIP archive', Buffer.concat([Buffer.from('PK\u0003\u0004'), Buffer.alloc(40)]), 400, /must be ZIP/],
    ['a 7z archive', Buffer.from('377abcaf271c', 'hex'), 415, /7z/],
    ['a damaged PDF', Buffer.from('%PDF-1.4\nrubbish'), 400, /must be PDF/],
    ['a PDF without text', pdf(''), 400, /no text/],
    ['nothing', '', 400, /must be a text that is not empty/],
    ['too large', 'a'.repeat(MAX_BYTES + 1), 413, /larger than/],
  ])('%s', async (_what, file, status, message) => {
    const answer = await upload(file);
    expect(answer.status).toBe(status);
    expect(answer.error.message).toMatch(message);
    expect(answer.text).toBeUndefined();
  });

  test('HTML that is not UTF-8', async () => {
    const { status, error } = await upload(Buffer.from([0x3c, 0x70, 0x3e, 0xff]), { name: 'a.html' });
    expect([status, error.param]).toEqual([400, 'file']);
  });

  test('a PDF that unfolds to more text than may be', async () => {
    const { status, error } = await upload(
      pdf(Array(4000).fill(line('Call me Ishmael.')).join('\n'), { compressed: true }),
    );
    expect(status).toBe(413);
    expect(error.message).toMatch(/longer than/);
  });

  test('a PDF that unfolds to more bytes than its process may have, and one that takes too long', async () => {
    const bomb = pdf('', { content: bytesThatUnfold() });
    const convert = (limits: ConversionLimits) =>
      new TextConverter(limits).convert({
        kind: 'pdf',
        file: [bomb],
        maxTextBytes: MAX_BYTES,
        signal: new AbortController().signal,
      });
    const tooMuchMemory = convert({ timeMs: 60_000, memoryBytes: 2 ** 28 });
    await expect(tooMuchMemory).rejects.toMatchObject({ status: 413, message: expect.stringMatching(/256 MiB/) });
    const tooLong = convert({ timeMs: 50, memoryBytes: 2 ** 28 });
    await expect(tooLong).rejects.toMatchObject({ status: 413, message: expect.stringMatching(/0.05 s/) });
  });

  test('a form that is cut off', async () => {
    const engine = Object.assign(new EchoEngine(), { sessions: new FakeSessions() });
    const body = '--x\r\ncontent-disposition: form-data; name="file"; filename="a.txt"\r\n\r\nCall me';
    const headers = { 'content-type': 'multipart/form-data; boundary=x' };
    const response = await createApp({ engine }).request('/v1/sessions', { method: 'POST', headers, body });
    expect(response.status).toBe(400);
    expect(engine.sessions.all.size).toBe(0);
  });

  test('fields that there are not, and files under other names', async () => {
    expect((await upload('a', { fields: { path: '/etc/passwd' } })).error).toMatchObject({
      param: 'path',
      code: 'unknown_parameter',
    });
    const engine = Object.assign(new EchoEngine(), { sessions: new FakeSessions() });
    const form = new FormData();
    form.set('document', new File(['a'], 'a.txt'));
    const response = await createApp({ engine }).request('/v1/sessions', { method: 'POST', body: form });
    expect(((await response.json()) as Answer).error.message).toMatch(/one file, 'file', got 'document'/);
  });

  test.each([
    ['multipart/form-data', 'a', /boundary/i],
    ['multipart/form-data; boundary=x', 'a', /form cannot be read|must be a file/],
    ['multipart/form-data; boundary=x', '--x--', /must be a file|cannot be read/],
  ])('a form that is none: %s', async (type, body, message) => {
    const engine = Object.assign(new EchoEngine(), { sessions: new FakeSessions() });
    const response = await createApp({ engine }).request('/v1/sessions', {
      method: 'POST',
      headers: { 'content-type': type },
      body,
    });
    expect(response.status).toBe(400);
    expect(((await response.json()) as Answer).error.message).toMatch(message);
  });
});
