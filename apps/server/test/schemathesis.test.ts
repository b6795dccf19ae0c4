/**
 * Schemathesis makes requests from /openapi.json, right and wrong ones, and holds the answers to it. Needs CTKVR_SCHEMATHESIS, the folder of its
 * wheels (`npm test -- schemathesis` sets it).
 */
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { RunningServer } from '../src/index.js';
import { startEchoServer } from './echo-server.js';

const folder = process.env.CTKVR_SCHEMATHESIS;
const title = `Schemathesis${folder ? '' : ' (skipped: CTKVR_SCHEMATHESIS names no folder)'}`;

/** What the schema cannot say (a field that needs another) is refused too: such requests are right by it, and answered 400. */
const left = ['positive_data_acceptance'];

describe.skipIf(!folder)(title, { timeout: 300_000 }, () => {
  let server: RunningServer;
  /** It remembers what failed, where it runs. */
  const notes = mkdtempSync(path.join(tmpdir(), 'ctkvr-schemathesis-'));

  beforeAll(async () => {
    ({ server } = await startEchoServer());
  });

  afterAll(async () => {
    rmSync(notes, { recursive: true, force: true });
    await server?.close();
  });

  test('finds nothing', async () => {
    const args = ['-m', 'schemathesis.cli', 'run', `${server.url}/openapi.json`, '--seed=1', '--no-color'];
    const chosen = ['--phases=examples,coverage,fuzzing', '--max-examples=10', `--exclude-checks=${left.join(',')}`];
    const run = promisify(execFile)('python3', [...args, ...chosen], {
      cwd: notes,
      env: { ...process.env, PYTHONPATH: folder },
      maxBuffer: 64 << 20,
    });
    const { stdout } = await run.catch((error: { stdout: string; stderr: string }) => {
      throw new Error(`${error.stdout}\n${error.stderr}`);
    });
    process.stderr.write(stdout);
    expect(stdout).toMatch(/(\d+) generated, \1 passed/);
  });
});
