/** Documents, questions and answers of the page, in a real browser. */
import type { Page } from 'playwright-core';
import { expect, test } from 'vitest';
import { describePage, isSeen } from './describe-page.js';
import { answerTokens } from './fake-answer.js';
import { dropFile, expectAccessible } from './visit.js';

describePage('documents and answers in Chromium', (at) => {
  /** How warm the strip's cells are. */
  const warmCells = (page: Page) =>
    page.locator('.strip rect').evaluateAll((cells) => cells.map((cell) => cell.getAttribute('fill-opacity')));

  test('reads a dropped document and says how much is left', async () => {
    at.server.reading.shut();
    at.server.cutsReading = true; // the page has to come back
    const page = await at.open();
    await dropFile(page, 'log.txt', 'a long text');
    const total = (at.server.passages.length * 32).toLocaleString('en');
    await page.getByText(`0 of ${total} tokens, 0 %`).waitFor();
    expect(at.server.received).toEqual(['a long text']);
    at.server.reading.let(3);
    await page.getByText(` of ${total} tokens, 30 %`).waitFor();
    await page.getByText(/ left$/).waitFor();
    await expectAccessible(page);
    const address = page.url();
    await page.reload();
    await page.getByText(` of ${total} tokens, 30 %`).waitFor();
    at.server.reading.runFreely();
    await page.getByText('The document has been read.').waitFor();
    expect(page.url()).toBe(address);
  });

  test('reads a text that is pasted, and a file that is chosen', async () => {
    const page = await at.open();
    await page.getByLabel('Or paste a text').fill('Call me Ishmael. Some years ago, never mind how long');
    await page.getByRole('button', { name: 'Read this text' }).click();
    await page.getByRole('heading', { name: 'Call me Ishmael. Some years ago,' }).waitFor();
    await page.getByRole('link', { name: 'Add a document' }).click();
    const file = { name: 'notes.md', mimeType: 'text/markdown', buffer: Buffer.from('# Notes') };
    await page.locator('input[type=file]').setInputFiles(file);
    await page.getByRole('heading', { name: 'notes.md' }).waitFor();
    expect(at.server.received).toEqual(['Call me Ishmael. Some years ago, never mind how long', '# Notes']);
  });

  test('streams an answer with Markdown and shows what was read for it', async () => {
    const { id } = at.server.addReady('log.txt');
    at.server.answering.shut();
    const page = await at.open(`/#/documents/${id}`);
    await page.getByLabel('Question').fill('When did the lamp fail?');
    await page.keyboard.press('Enter');
    await page.getByText('Waiting for the model').waitFor();
    at.server.answering.let(12);
    await page.locator('.answer strong', { hasText: '2:20 a.m.' }).waitFor();
    await page.locator('.strip').waitFor();
    at.server.answering.runFreely();
    await page.getByText('read 2,107 of 12,288 keys (17 %)').waitFor();
    await page.getByText('46.7 tokens/s').waitFor();
    expect(await page.locator('.answer ol:not(.quotes) li').count()).toBe(3);
    expect(at.server.questions).toMatchObject([
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
    const page = await at.openAnswer();
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
    const last = async () => Number(await wanted.getAttribute('data-passage')) >= at.server.passages.length - 2;
    await expect.poll(last).toBe(true);
    await expectAccessible(page);
  });

  test('keeps place, conversation and what was read over a reload', async () => {
    const page = await at.openAnswer();
    const [address, cells] = [page.url(), await warmCells(page)];
    await page.reload();
    await page.locator('.answer strong', { hasText: '2:20 a.m.' }).waitFor();
    await page.locator('.strip').waitFor();
    expect([page.url(), await warmCells(page)]).toEqual([address, cells]);
  });

  test('chats without a document, tells the model all that was said, and can be stopped', async () => {
    const page = await at.open();
    at.server.answer = ['Hello', ' you'];
    await page.getByRole('button', { name: 'New chat' }).click();
    await page.getByLabel('Message').fill('Hi');
    await page.getByRole('button', { name: 'Ask' }).click();
    await page.getByText('Hello you').waitFor();
    await page.getByText('first token after').waitFor();
    at.server.answering.shut();
    await page.getByLabel('Message').fill('More');
    await page.keyboard.press('Enter');
    at.server.answering.let(1);
    await page.locator('.turn').nth(1).getByText('Hello').waitFor();
    await page.getByRole('button', { name: 'Stop' }).click();
    await page.getByText('Stopped.').waitFor();
    await expect.poll(() => at.server.numLeft).toBe(1);
    expect(at.server.questions[1]?.messages).toEqual([
      { role: 'user', content: 'Hi' },
      { role: 'assistant', content: 'Hello you' },
      { role: 'user', content: 'More' },
    ]);
    expect(at.server.questions[1]).not.toHaveProperty('session');
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

  test('shows every token of the answer', async () => {
    const page = await at.openAnswer();
    const shown = await page
      .locator('[data-token]')
      .evaluateAll((spans) => spans.map((span) => span.getAttribute('data-token')));
    const withLetters = answerTokens.flatMap((text, at) => (/\p{L}/u.test(text) ? [String(at)] : []));
    expect(shown).toEqual(expect.arrayContaining(withLetters));
  });
});
