/** Ways to use the page: keyboard, phone, dark, when something fails. */
import { expect, test } from 'vitest';
import { askQuestion, describePage, isSeen } from './describe-page.js';
import { dropFile, expectAccessible } from './visit.js';

describePage('use of the page in Chromium', (at) => {
  test('can be used with the keyboard alone', async () => {
    const page = await at.open();
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
    const page = await at.openAnswer();
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
    expect(at.server.documents.size).toBe(1);
    await page.getByRole('button', { name: 'Delete' }).click();
    await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
    await page.getByRole('heading', { name: 'Ask a long document' }).waitFor();
    expect(at.server.documents.size).toBe(0);
  });

  test('shows hostile text of answers and names as text', async () => {
    at.server.addReady('<img src=x onerror="document.title=1">');
    at.server.answer = ['<script>document.title=1</script>', ' ![a](https://example.org/a.png)', '\n\n|a|\n|:-:|\n|b|'];
    const page = await at.open('/#/documents/doc-1');
    await askQuestion(page);
    await page.getByText('<script>document.title=1</script>').waitFor();
    expect(await page.locator('img').count()).toBe(0);
    expect(await page.title()).toBe('<img src=x onerror="document.title=1"> - CTkvr');
  });

  test('says in plain words what failed and what to do', async () => {
    const { id } = at.server.addReady('log.txt');
    const page = await at.open(`/#/documents/${id}`);
    at.server.refusal = { status: 429, message: 'Too many requests wait.', code: 'queue_full' };
    await page.getByLabel('Question').fill('When?');
    await page.keyboard.press('Enter');
    await page.getByText('Too many requests wait. Try again in 7 s.').waitFor();
    await expectAccessible(page);
    await dropFile(page, 'photo.bin', '\0');
    await page.getByText('This is not a text. Save it as plain text').waitFor();
    const { id: added } = at.server.addReady('from elsewhere.txt');
    await page.goto(`${at.server.url}/#/documents/${added}`);
    await page.getByRole('heading', { name: 'from elsewhere.txt' }).waitFor();
    await page.goto(`${at.server.url}/#/documents/gone`);
    await page.getByRole('heading', { name: 'This document is not on the server' }).waitFor();
    // The browser itself tells of both responses on its console.
    expect(at.takeComplaints().map((text) => /status of (\d+)/.exec(text)?.[1])).toEqual(['429', '415']);
  });

  test('says why a document could not be read', async () => {
    Object.assign(at.server.addReady('scan.pdf'), { state: 'failed', error: { message: 'It holds pictures only.' } });
    const page = await at.open('/#/documents/doc-1');
    await page.getByText('The document could not be read. It holds pictures only.').waitFor();
    await page.getByRole('link', { name: 'scan.pdf could not be read' }).waitFor();
    expect(await page.getByLabel('Question').count()).toBe(0);
  });

  test('asks a document of the model that read it, and has a new one read by the one that is chosen', async () => {
    at.server.models = [{ id: 'small', context_length: 16_384 }, { id: 'large' }];
    Object.assign(at.server.addReady('log.txt', 'large'), { state: 'saved' });
    const page = await at.open('/#/documents/doc-1');
    await page.getByText(', read by large').waitFor();
    await askQuestion(page);
    await expectAccessible(page);
    await page.getByRole('link', { name: 'Add a document' }).click();
    await page.getByText('16,384 tokens of context').waitFor();
    await page.getByLabel('Model').selectOption('large');
    await dropFile(page, 'second.txt', 'a text');
    await page.getByRole('heading', { name: 'second.txt' }).waitFor();
    await page.getByLabel('Model').selectOption('small');
    await askQuestion(page);
    expect(at.server.questions.map(({ model, session }) => [model, session])).toEqual([
      ['large', 'doc-1'],
      ['large', 'doc-2'],
    ]);
  });

  test('is a chat where the server keeps no documents', async () => {
    at.server.keepsDocuments = false;
    at.server.answer = ['Hello'];
    const page = await at.open();
    await page.getByRole('heading', { name: 'Ask the model' }).waitFor();
    await expectAccessible(page);
    expect(await page.getByRole('link', { name: 'Add a document' }).count()).toBe(0);
    await page.getByRole('main').getByRole('button', { name: 'New chat' }).click();
    await page.getByLabel('Message').fill('Hi');
    await page.keyboard.press('Enter');
    await page.locator('.answer-text', { hasText: 'Hello' }).waitFor();
    expect(at.takeComplaints()).toEqual([expect.stringContaining('404')]);
  });

  test('says so when the server is gone', async () => {
    const { id } = at.server.addReady('log.txt');
    const page = await at.open(`/#/documents/${id}`);
    await page.getByLabel('Question').fill('When?');
    await at.server.close();
    await page.keyboard.press('Enter');
    await page.getByText('The server cannot be reached. See whether it still runs').waitFor();
    expect(at.takeComplaints()).toEqual([expect.stringContaining('ERR_CONNECTION')]);
  });

  test('asks for an API key only when the server wants one', async () => {
    at.server.key = 'secret';
    at.server.addReady('log.txt');
    const page = await at.open();
    await page.getByRole('textbox', { name: 'API key' }).fill('secret');
    await expectAccessible(page);
    await page.keyboard.press('Enter');
    await page.getByRole('link', { name: 'log.txt' }).waitFor();
    await page.reload();
    await page.getByRole('link', { name: 'log.txt' }).waitFor();
    expect(await page.getByRole('dialog').count()).toBe(0);
    expect(at.takeComplaints()).toEqual([expect.stringContaining('401')]);
  });

  test('is accessible in the dark', async () => {
    const page = await at.openAnswer({ colorScheme: 'dark' });
    await page.locator('.quote').first().click();
    await expectAccessible(page);
    expect(await page.evaluate('getComputedStyle(document.body).backgroundColor')).toBe('rgb(20, 23, 27)');
  });

  test('fits on a phone', async () => {
    const page = await at.openAnswer({ viewport: { width: 390, height: 844 }, hasTouch: true });
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
});
