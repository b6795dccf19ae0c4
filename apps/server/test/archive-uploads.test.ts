/** Source archives that become documents. */
import { gzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { TextConverter } from '../src/uploads/text-converter.js';
import { textOfFile } from '../src/uploads/text-of-file.js';
import { type ArchivedFile, tar, zip } from './archive-files.js';

const textOf = (file: Buffer) =>
  textOfFile(
    { bytes: [file], fileName: 'a', contentType: '' },
    { converter: new TextConverter(), maxTextBytes: 50_000, signal: new AbortController().signal },
  );

const kinds: [string, (files: readonly ArchivedFile[]) => Buffer][] = [
  ['zip', zip],
  ['tar', tar],
  ['tar.gz', (files) => gzipSync(tar(files))],
];

test.each(kinds)('%s: text files by name under their paths, others left out and counted', async (_kind, pack) => {
  const file = pack([
    { path: 'src/b.ts', bytes: 'b;\n' },
    { path: 'src/a.ts', bytes: 'Häuser\n\n' },
    { path: 'node_modules/x/index.js', bytes: 'x' },
    { path: 'pnpm-lock.yaml', bytes: 'x' },
    { path: 'zeros.bin', bytes: Buffer.from([0x61, 0, 0x62]) },
    { path: 'latin1.txt', bytes: Buffer.from([0x61, 0xe4]) },
  ]);
  expect(await textOf(file)).toBe(
    '===== src/a.ts =====\nHäuser\n\n===== src/b.ts =====\nb;\n\n===== Files left out: 4 =====\n',
  );
});

test.each(kinds)('%s: links are ignored, and paths stay inside', async (_kind, pack) => {
  const file = pack([
    { path: '../../etc/cron', bytes: 'up' },
    { path: '/root/key', bytes: 'absolute' },
    { path: 'line\nbreak', bytes: 'line' },
    { path: 'link', bytes: '/etc/passwd', type: '2' },
  ]);
  expect(await textOf(file)).toBe(
    '===== etc/cron =====\nup\n\n===== linebreak =====\nline\n\n===== root/key =====\nabsolute\n',
  );
});

test('tar: hard links and devices are ignored', async () => {
  const file = tar([
    { path: 'hard', bytes: '', type: '1' },
    { path: 'device', bytes: '', type: '3' },
    { path: 'a', bytes: 'a' },
  ]);
  expect(await textOf(file)).toBe('===== a =====\na\n');
});

const small = [{ path: 'a.txt', bytes: 'Call me Ishmael. '.repeat(200) }];
const spaces = Array<ArchivedFile>(9).fill({ path: 'a', bytes: Buffer.alloc(2 ** 24, ' ') });
const many = Array<ArchivedFile>(20_001).fill({ path: 'a', bytes: '' });

test.each([
  ['a ZIP archive that is cut off', () => zip(small).subarray(0, -30), 400, /must be ZIP/],
  ['an encrypted one', () => zip(small, { encrypted: true }), 400, /encrypted/],
  ['one with a damaged file', () => zip(small).fill(0xff, 36, 50), 400, /must be ZIP/],
  ['a tar archive that is cut off', () => tar(small).subarray(0, 700), 400, /must be TAR/],
  ['gzip that is cut off', () => gzipSync(tar(small)).subarray(0, 60), 400, /must be TGZ/],
  ['gzip of no archive', () => gzipSync('Call me Ishmael.'.repeat(100)), 400, /must be TGZ/],
  ['nothing but binary files', () => zip([{ path: 'a', bytes: Buffer.alloc(9) }]), 400, /no text files/],
  ['a ZIP archive that unfolds', () => zip(spaces), 413, /unpacks to more/],
  ['gzip that unfolds', () => gzipSync(tar(spaces)), 413, /unpacks to more/],
  ['more entries than may be', () => gzipSync(tar(many)), 413, /20000 entries/],
  ['more text than may be', () => zip([{ path: 'a', bytes: 'a'.repeat(60_000) }]), 413, /longer than/],
  ['an Office document', () => zip([{ path: '[Content_Types].xml', bytes: '' }]), 415, /docx/],
])(
  'refused: %s',
  async (_what, file, status, message) => {
    await expect(textOf(file())).rejects.toMatchObject({ message: expect.stringMatching(message), status });
  },
  60_000,
);
