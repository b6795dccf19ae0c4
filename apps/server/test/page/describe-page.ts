/** Tests of the built page in a browser, each beside a server of its own, on a visit of its own. */
import { rmSync } from 'node:fs';
import type { Browser, BrowserContextOptions, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect } from 'vitest';
import { buildPage, findChromium, startChromium } from './browser.js';
import { FakeServer } from './fake-server.js';
import { startVisit, type Visit } from './visit.js';

/** What one test has. */
export interface PageTest {
  server: FakeServer;
  /** Opens the page; a test does so once. */
  open(address?: string, options?: BrowserContextOptions): Promise<Page>;
  /** Opens it at a document that has been read, and asks one question. */
  openAnswer(options?: BrowserContextOptions): Promise<Page>;
  /** Takes the complaints of the browser that the test expects; a test fails for all others. */
  takeComplaints(): string[];
}

const chromium = findChromium();
const reason = chromium === null ? ' (skipped: no Chromium on PATH)' : '';

/** A suite; where there is no browser it is skipped and says so. */
export function describePage(title: string, suite: (test: PageTest) => void): void {
  describe.skipIf(chromium === null)(`${title}${reason}`, () => {
    let folder: string;
    let browser: Browser;
    let visit: Visit;

    const current: PageTest = {
      server: undefined as never, // there is one before each test
      async open(address = '/', options = {}) {
        visit = await startVisit(browser, current.server.url + address, options);
        return visit.page;
      },
      async openAnswer(options = {}) {
        const { id } = current.server.addReady('log.txt');
        const page = await current.open(`/#/documents/${id}`, options);
        await askQuestion(page);
        return page;
      },
      takeComplaints: () => visit.complaints.splice(0),
    };

    beforeAll(async () => {
      folder = await buildPage();
      browser = await startChromium(chromium!);
    });
    afterAll(async () => {
      await browser?.close();
      if (folder) rmSync(folder, { recursive: true });
    });
    beforeEach(async () => {
      current.server = await FakeServer.start(folder);
    });
    afterEach(async () => {
      expect(visit.complaints).toEqual([]);
      await visit.page.context().close();
      await current.server.close();
    });

    suite(current);
  });
}

/** Asks and waits until the answer has ended. */
export async function askQuestion(page: Page): Promise<void> {
  await page.getByLabel('Question').fill('When did the lamp fail?');
  await page.keyboard.press('Enter');
  await page.getByText('read 2,107 of 12,288 keys (17 %)').waitFor();
}

/** Whether the whole of an element lies within the window. */
export async function isSeen(page: Page, selector: string): Promise<boolean> {
  const box = await page.locator(selector).boundingBox();
  return box !== null && box.y >= 0 && box.y + box.height <= page.viewportSize()!.height;
}
