/** The page in a real browser, beside a stand-in for the server that has its routes and no model. */
import { rmSync } from 'node:fs';
import type { Browser, BrowserContextOptions, Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { buildPage, findChromium, startChromium } from './browser.js';
import { answerTokens } from './fake-answer.js';
import { FakeServer } from './fake-server.js';
import { dropFile, expectAccessible, startVisit, type Visit } from './visit.js';

const chromium = findChromium();
const reason = chromium === null ? ' (skipped: no Chromium on PATH)' : '';

describe.skipIf(chromium === null)(`the page in Chromium${reason}`, () => {
  let folder: string;
  let browser: Browser;
  let server: FakeServer;
  let visit: Visit;

  beforeAll(async () => {
    folder = await buildPage();
    browser = await startChromium(chromium!);
  });
  afterAll(async () => {
    await browser?.close();
    if (folder) rmSync(folder, { recursive: true });
  });
  beforeEach(async () => {
    server = await FakeServer.start(folder);
  });
  afterEach(async () => {
    expect(visit.complaints).toEqual([]);
    await visit.page.context().close();
    await server.close();
  });

  async function open(address = '/', options: BrowserContextOptions = {}): Promise<Page> {
    visit = await startVisit(browser, server.url + address, options);
    return visit.page;
  }

  /** At a document that has been read and was asked one question. */
  async function openAnswer(options: BrowserContextOptions = {}): Promise<Page> {
    const { id } = server.addReady('log.txt');
    const page = await open(`/#/documents/${id}`, options);
    await askQuestion(page);
    return page;
  }

  async function askQuestion(page: Page) {
    await page.getByLabel('Question').fill('When did the lamp fail?');
    await page.keyboard.press('Enter');
    await page.getByText('first token after').waitFor();
    await page.getByText('read 2,107 of 12,288 keys (17 %)').waitFor();
  }

  /** How warm the strip's cells are. */
  const warmCells = (page: Page) =>
    page.locator('.strip rect').evaluateAll((cells) => cells.map((cell) => cell.getAttribute('fill-opacity')));

  test('reads a dropped document and says how much is left', async () => {
    server.reading.shut();
    server.cutsReading = true; // the page has to come back
    const page = await open();
    await dropFile(page, 'log.txt', 'a long text');
    const total = (server.passages.length * 32).toLocaleString('en');
    await page.getByText(`0 of ${total} tokens, 0 %`).waitFor();
    expect(server.received).toEqual(['a long text']);
    server.reading.let(3);
    await page.getByText(` of ${total} tokens, 30 %`).waitFor();
    await page.getByText(/ left$/).waitFor();
    await expectAccessible(page);
    const address = page.url();
    await page.reload();
    await page.getByText(` of ${total} tokens, 30 %`).waitFor();
    server.reading.runFreely();
    await page.getByText('The document has been read.').waitFor();
    expect(page.url()).toBe(address);
  });

  test('reads a text that is pasted, and a file that is chosen', async () => {
    const page = await open();
    await page.getByLabel('Or paste a text').fill('Call me Ishmael. Some years ago, never mind how long');
    await page.getByRole('button', { name: 'Read this text' }).click();
    await page.getByRole('heading', { name: 'Call me Ishmael. Some years ago,' }).waitFor();
    await page.getByRole('link', { name: 'Add a document' }).click();
    const file = { name: 'notes.md', mimeType: 'text/markdown', buffer: Buffer.from('# Notes') };
    await page.locator('input[type=file]').setInputFiles(file);
    await page.getByRole('heading', { name: 'notes.md' }).waitFor();
    expect(server.received).toEqual(['Call me Ishmael. Some years ago, never mind how long', '# Notes']);
  });

  test('streams an answer with Markdown and shows what was read for it', async () => {
    const { id } = server.addReady('log.txt');
    server.answering.shut();
    const page = await open(`/#/documents/${id}`);
    await page.getByLabel('Question').fill('When did the lamp fail?');
    await page.keyboard.press('Enter');
    await page.getByText('Waiting for the model').waitFor();
    server.answering.let(12);
    await page.locator('.answer strong', { hasText: '2:20 a.m.' }).waitFor();
    await page.locator('.strip').waitFor();
    server.answering.runFreely();
    await page.getByText('read 2,107 of 12,288 keys (17 %)').waitFor();
    await page.getByText('46.7 tokens/s').waitFor();
    expect(await page.locator('.answer ol:not(.quotes) li').count()).toBe(3);
    expect(server.questions).toMatchObject([
      {
        model: 'smollm2-135m',
        session: id,
        messages: [{ role: 'user', content: 'When did the lamp fail?' }],
        stream: true,
        ctkvr: { read_map: true },
      },
    ]);
    await expect.poll(() => page.locator('.quote').first().textContent()).toContain('the lamp went out');
    await expectAccessible(page);
  });

  test('shows what was read for the token under the pointer, and leads to passages', async () => {
    const page = await openAnswer();
    const ofAnswer = await warmCells(page);
    await page.locator('[data-token="30"]').hover();
    await page.getByText('Read for the token “pane”').waitFor();
    expect(await warmCells(page)).not.toEqual(ofAnswer);
    const highlighted = page.locator('.passages [data-heat]:not([data-heat="0"])');
    const ofToken = await highlighted.allTextContents();
    expect(ofToken.join('')).toContain('Salt water');
    await page.locator('.question').hover();
    await page.getByText('Read for this answer').waitFor();
    expect(await warmCells(page)).toEqual(ofAnswer);

    await page.locator('.quote').first().click();
    const wanted = page.locator('.passages .wanted');
    await page.locator('.passages .wanted:focus').waitFor();
    expect(await wanted.textContent()).toContain('lamp went');
    await expect.poll(() => isSeen(page, '.passages .wanted')).toBe(true);

    // The right end of the strip is the end of the document.
    const strip = (await page.locator('.strip').boundingBox())!;
    await page.mouse.click(strip.x + strip.width - 1, strip.y + 5);
    const last = async () => Number(await wanted.getAttribute('data-passage')) >= server.passages.length - 2;
    await expect.poll(last).toBe(true);
    await expectAccessible(page);
  });

  test('keeps place, conversation and what was read over a reload', async () => {
    const page = await openAnswer();
    const [address, cells] = [page.url(), await warmCells(page)];
    await page.reload();
    await page.locator('.answer strong', { hasText: '2:20 a.m.' }).waitFor();
    await page.locator('.strip').waitFor();
    expect([page.url(), await warmCells(page)]).toEqual([address, cells]);
  });

  test('can be used with the keyboard alone', async () => {
    const page = await open();
    const focused = () => page.evaluate<string>('document.activeElement.textContent || document.activeElement.id');
    const tabTo = async (what: string | RegExp) => {
      for (let presses = 0; presses < 40; presses++) {
        await page.keyboard.press('Tab');
        if ((await focused()).match(what)) return;
      }
      throw new Error(`Tab does not lead to ${what}`);
    };
    await page.keyboard.press('Tab');
    expect(await focused()).toBe('Skip to the conversation');
    await page.keyboard.press('Enter');
    await page.locator('main:focus').waitFor();
    await tabTo(/^paste$/);
    await page.keyboard.type('A text to be read');
    await tabTo('Read this text');
    await page.keyboard.press('Enter');
    await page.getByText('The document has been read.').waitFor();
    await page.keyboard.type('When?'); // the field for questions has the focus
    await page.keyboard.press('Enter');
    await page.getByText('first token after').waitFor();
    await page.keyboard.press('Shift+Tab');
    expect(await focused()).toMatch(/^\d+ %/); // the last quote
    await page.locator('.with-tokens').focus();
    for (let token = 0; token < 3; token++) await page.keyboard.press('ArrowRight');
    await page.getByText('Read for the token “at”').waitFor();
    await page.keyboard.press('End');
    await page.getByText('Read for the token “.”').waitFor();
    await page.keyboard.press('Escape');
    await page.getByText('Read for this answer').waitFor();
    await tabTo(/went out/);
    const quote = await focused();
    await page.keyboard.press('Enter');
    await page.locator('.passages .wanted:focus').waitFor();
    await page.keyboard.press('Escape');
    await expect.poll(focused).toBe(quote);
  });

  test('renames, exports and deletes a document', async () => {
    const page = await openAnswer();
    await page.getByRole('button', { name: 'Rename' }).click();
    await expectAccessible(page);
    await page.getByRole('textbox', { name: 'Name' }).fill('The log');
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { name: 'The log' }).waitFor();
    const [download] = await Promise.all([
      page.waitForEvent('download'),
      page.getByRole('button', { name: 'Export' }).click(),
    ]);
    expect(download.suggestedFilename()).toBe('The log.ctkvr');
    await page.getByRole('button', { name: 'Delete' }).click();
    await page.getByRole('dialog').waitFor();
    await page.keyboard.press('Escape');
    await page.getByRole('dialog').waitFor({ state: 'detached' });
    expect(server.documents.size).toBe(1);
    await page.getByRole('button', { name: 'Delete' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
    await page.getByRole('heading', { name: 'Ask a long document' }).waitFor();
    expect(server.documents.size).toBe(0);
  });

  test('chats without a document, tells the model all that was said, and can be stopped', async () => {
    const page = await open();
    server.answer = ['Hello', ' you'];
    await page.getByRole('button', { name: 'New chat' }).click();
    await page.getByLabel('Message').fill('Hi');
    await page.getByRole('button', { name: 'Ask' }).click();
    await page.getByText('Hello you').waitFor();
    await page.getByText('first token after').waitFor();
    server.answering.shut();
    await page.getByLabel('Message').fill('More');
    await page.keyboard.press('Enter');
    server.answering.let(1);
    await page.locator('.turn').nth(1).getByText('Hello').waitFor();
    await page.getByRole('button', { name: 'Stop' }).click();
    await page.getByText('Stopped.').waitFor();
    await expect.poll(() => server.numLeft).toBe(1);
    expect(server.questions[1]?.messages).toEqual([
      { role: 'user', content: 'Hi' },
      { role: 'assistant', content: 'Hello you' },
      { role: 'user', content: 'More' },
    ]);
    expect(server.questions[1]).not.toHaveProperty('session');
    await page.reload();
    await page.getByRole('link', { name: 'Hi' }).waitFor();
    await page.getByText('Stopped.').waitFor();
    await page.getByRole('button', { name: 'Delete' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
    await expect.poll(() => page.getByRole('link', { name: 'Hi' }).count()).toBe(0);
    await page.reload();
    await page.getByText('None yet.').waitFor();
    expect(await page.getByRole('link', { name: 'Hi' }).count()).toBe(0);
  });

  test('shows hostile text of answers and names as text', async () => {
    server.addReady('<img src=x onerror="document.title=1">');
    server.answer = ['<script>document.title=1</script>', ' ![a](https://example.org/a.png)', '\n\n|a|\n|:-:|\n|b|'];
    const page = await open('/#/documents/doc-1');
    await askQuestion(page);
    await page.getByText('<script>document.title=1</script>').waitFor();
    expect(await page.locator('img').count()).toBe(0);
    expect(await page.title()).toBe('CTkvr');
  });

  test('says in plain words what failed and what to do', async () => {
    const { id } = server.addReady('log.txt');
    const page = await open(`/#/documents/${id}`);
    server.refusal = { status: 429, message: 'Too many requests wait.', code: 'queue_full' };
    await page.getByLabel('Question').fill('When?');
    await page.keyboard.press('Enter');
    await page.getByText('Too many requests wait. Try again in 7 s.').waitFor();
    await expectAccessible(page);
    await dropFile(page, 'photo.bin', '\0');
    await page.getByText('This is not a text. Save it as plain text').waitFor();
    const { id: added } = server.addReady('from elsewhere.txt');
    await page.goto(`${server.url}/#/documents/${added}`);
    await page.getByRole('heading', { name: 'from elsewhere.txt' }).waitFor();
    await page.goto(`${server.url}/#/documents/gone`);
    await page.getByRole('heading', { name: 'This document is not on the server' }).waitFor();
    // The browser itself tells of both responses on its console.
    expect(visit.complaints.splice(0).map((text) => /status of (\d+)/.exec(text)?.[1])).toEqual(['429', '415']);
  });

  test('says why a document could not be read', async () => {
    Object.assign(server.addReady('scan.pdf'), { state: 'failed', error: { message: 'It holds pictures only.' } });
    const page = await open('/#/documents/doc-1');
    await page.getByText('The document could not be read. It holds pictures only.').waitFor();
    await page.getByRole('link', { name: 'scan.pdf could not be read' }).waitFor();
    expect(await page.getByLabel('Question').count()).toBe(0);
  });

  test('says so when the server is gone', async () => {
    const { id } = server.addReady('log.txt');
    const page = await open(`/#/documents/${id}`);
    await page.getByLabel('Question').fill('When?');
    await server.close();
    await page.keyboard.press('Enter');
    await page.getByText('The server cannot be reached. See whether it still runs').waitFor();
    expect(visit.complaints.splice(0)).toEqual([expect.stringContaining('ERR_CONNECTION')]);
    server = await FakeServer.start(folder);
  });

  test('asks for an API key only when the server wants one', async () => {
    server.key = 'secret';
    server.addReady('log.txt');
    const page = await open();
    await page.getByRole('textbox', { name: 'API key' }).fill('secret');
    await expectAccessible(page);
    await page.keyboard.press('Enter');
    await page.getByRole('link', { name: 'log.txt' }).waitFor();
    await page.reload();
    await page.getByRole('link', { name: 'log.txt' }).waitFor();
    expect(await page.getByRole('dialog').count()).toBe(0);
    expect(visit.complaints.splice(0)).toEqual([expect.stringContaining('401')]);
  });

  test('is accessible in the dark', async () => {
    const page = await openAnswer({ colorScheme: 'dark' });
    await page.locator('.quote').first().click();
    await expectAccessible(page);
    expect(await page.evaluate('getComputedStyle(document.body).backgroundColor')).toBe('rgb(20, 23, 27)');
  });

  test('fits on a phone', async () => {
    const page = await openAnswer({ viewport: { width: 390, height: 844 }, hasTouch: true });
    const widest = () =>
      page.evaluate(
        'Math.max(...[...document.querySelectorAll("html, main, .conversation")].map((e) => e.scrollWidth))',
      );
    expect(await widest()).toBe(390);
    expect(await page.getByRole('link', { name: 'Add a document' }).isVisible()).toBe(false);
    await expectAccessible(page);
    await page.locator('.quote').first().tap();
    await expect.poll(() => isSeen(page, '.passages .wanted')).toBe(true);
    await expectAccessible(page);
    await page.getByRole('button', { name: 'Close' }).tap();
    await page.getByRole('button', { name: 'Menu' }).tap();
    await expectAccessible(page);
    await page.getByRole('link', { name: 'Add a document' }).tap();
    await page.getByRole('heading', { name: 'Ask a long document' }).waitFor();
    expect(await page.getByRole('link', { name: 'Add a document' }).isVisible()).toBe(false);
    expect(await widest()).toBe(390);
    await expectAccessible(page);
  });

  test('shows every token of the answer', async () => {
    const page = await openAnswer();
    const shown = await page
      .locator('[data-token]')
      .evaluateAll((spans) => spans.map((span) => span.getAttribute('data-token')));
    const withLetters = answerTokens.flatMap((text, at) => (/\p{L}/u.test(text) ? [String(at)] : []));
    expect(shown).toEqual(expect.arrayContaining(withLetters));
  });
});

/** Whether the whole of an element lies within the window. */
async function isSeen(page: Page, selector: string): Promise<boolean> {
  const box = await page.locator(selector).boundingBox();
  return box !== null && box.y >= 0 && box.y + box.height <= page.viewportSize()!.height;
}
