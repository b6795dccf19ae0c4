/** The pictures of the page in docs/pictures. */
import { rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Browser } from 'playwright-core';
import { buildPage, findChromium, startChromium } from './browser.js';
import { FakeServer } from './fake-server.js';

const looks = [
  { name: 'desktop', width: 1180, height: 720, colorScheme: 'light' },
  { name: 'dark', width: 1180, height: 720, colorScheme: 'dark' },
  { name: 'phone', width: 390, height: 844, colorScheme: 'light' },
] as const;

/** Takes a picture of an answer in every look. Returns their paths. */
export async function takePictures(): Promise<string[]> {
  const executable = findChromium();
  if (executable === null) throw new Error('no Chromium on PATH: apt-get install chromium');
  const page = await buildPage();
  const server = await FakeServer.start(page);
  const browser = await startChromium(executable);
  server.addReady('Field notes, spring survey.pdf');
  const { id } = server.addReady('Lighthouse log 1893.txt');
  try {
    const paths: string[] = [];
    for (const look of looks) paths.push(await pictureOfAnswer(browser, `${server.url}/#/documents/${id}`, look));
    return paths;
  } finally {
    await browser.close();
    await server.close();
    rmSync(page, { recursive: true });
  }
}

async function pictureOfAnswer(
  browser: Browser,
  url: string,
  { name, width, height, colorScheme }: (typeof looks)[number],
) {
  const page = await browser.newPage({ viewport: { width, height }, colorScheme, reducedMotion: 'reduce' });
  await page.goto(url);
  await page.getByLabel('Question').fill('When did the lamp fail, and why?');
  await page.keyboard.press('Enter');
  await page.getByText('first token after').waitFor();
  if (width > 700) {
    await page.locator('.quote').first().click();
    await page.locator('[data-token="30"]').hover(); // "pane"
  }
  const path = pathOf(name);
  await page.screenshot({ path });
  await page.close();
  return path;
}

function pathOf(name: string): string {
  return fileURLToPath(new URL(`../../../../docs/pictures/page-${name}.png`, import.meta.url));
}
