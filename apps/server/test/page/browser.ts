/** The built page in Debian's Chromium, or whichever there is. */
import { existsSync, mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Browser, chromium } from 'playwright-core';
import { build } from 'vite';

const names = ['chromium', 'chromium-browser', 'google-chrome'];

/** Path of the browser; null = there is none on this machine. */
export function findChromium(): string | null {
  const folders = (process.env.PATH ?? '').split(path.delimiter);
  return names.flatMap((name) => folders.map((folder) => path.join(folder, name))).find(existsSync) ?? null;
}

export function startChromium(executablePath: string): Promise<Browser> {
  // Chromium has no sandbox for root, which containers often run as.
  const args = process.getuid?.() === 0 ? ['--no-sandbox'] : [];
  return chromium.launch({ executablePath, args });
}

/** Builds the page as it is now, never a stale dist. Returns its folder, which is the caller's to remove. */
export async function buildPage(): Promise<string> {
  const outDir = mkdtempSync(path.join(tmpdir(), 'ctkvr-page-'));
  const configFile = fileURLToPath(new URL('../../../page/vite.config.ts', import.meta.url));
  await build({ configFile, mode: 'production', logLevel: 'error', build: { outDir } });
  return outDir;
}
