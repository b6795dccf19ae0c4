import { expect, it } from 'vitest';
import { describeWithModel, prose } from './test-model.js';

describeWithModel('a document that is read once', (model) => {
  const fact = 'The secret word of the harbour is Nordlicht. Remember it: the secret word is Nordlicht.';
  const greedy = { maxTokens: 24, sampling: { temperature: 0 } };
  const collect = async (events: AsyncIterable<{ readonly text: string }>) => {
    let text = '';
    for await (const event of events) text += event.text;
    return text;
  };

  it('answers several questions, at once too, as each alone; the document is read and indexed once', async () => {
    const phases: string[] = [];
    await using document = await model().readDocument(`${prose(500)}\n\n${fact}`, {
      selector: { denseBelow: 0 },
      onProgress: ({ phase }) => phases.push(phase),
    });
    expect(document.reading.numTokens).toBe(document.numTokens);
    expect(document.reading.index).not.toBeNull();
    expect(phases.filter((phase) => phase === 'index')).toHaveLength(1);
    const question = 'What is the secret word of the harbour?';
    const alone = await collect(document.ask(question, greedy));
    expect(alone).toContain('Nordlicht');
    expect(document.lastFinish?.numTokens).toBeGreaterThan(0);
    const [first, second] = await Promise.all([
      collect(document.ask(question, greedy)),
      collect(document.ask('Who watched the harbour on day 1?', greedy)),
    ]);
    expect(first).toContain('Nordlicht');
    expect(second).not.toBe('');
  });

  it('tells where the attention of each token went: most of it, beside the first tokens and the question, to the sentence that answers', async () => {
    const text = `${prose(40)}\n\n${fact}\n\n${prose(40)}`;
    await using document = await model().readDocument(text, { selector: { denseBelow: 0 } });
    const { passageSize } = model();
    const before = await model().tokenize(text.slice(0, text.indexOf(fact)));
    const factTokens = await model().tokenize(fact);
    const numDocument = Math.floor(document.numTokens / passageSize);
    const sums = new Float64Array(numDocument);
    for await (const { text: piece, readMap } of document.ask('What is the secret word of the harbour?', {
      ...greedy,
      readMap: true,
    })) {
      const whole = readMap!.reduce((sum, share) => sum + share, 0);
      expect(whole).toBeGreaterThan(0.5);
      expect(whole).toBeLessThanOrEqual(1 + 1e-4);
      if (piece.trim() === '') continue;
      for (const i of sums.keys()) sums[i]! += readMap![i]!;
    }
    const peak = sums.indexOf(Math.max(...sums.subarray(1)));
    // The prompt's head comes before the document: at most two passages.
    const [from, to] = [before.length, before.length + factTokens.length].map((at) => Math.floor(at / passageSize));
    expect(peak).toBeGreaterThanOrEqual(from!);
    expect(peak).toBeLessThanOrEqual(to! + 2);
    for await (const { readMap } of document.ask('Why?', { ...greedy, maxTokens: 1 })) expect(readMap).toBeNull();
  });

  it('leaving an answer early frees its fork, and the document goes on', async () => {
    await using document = await model().readDocument(fact);
    for await (const _event of document.ask('What is the secret word?', greedy)) break;
    expect(await collect(document.ask('What is the secret word?', greedy))).toContain('Nordlicht');
  });

  it('after close, and while it closes, answers end with CTKVR_CLOSED; an abort is an AbortError', async () => {
    const document = await model().readDocument(fact);
    const aborted = collect(document.ask('Why?', { signal: AbortSignal.abort() }));
    await expect(aborted).rejects.toMatchObject({ name: 'AbortError', code: 'CTKVR_ABORTED' });
    const running = document.ask('Why?', { maxTokens: 200 });
    await running.next();
    await document.close();
    await expect(running.next()).rejects.toMatchObject({ code: 'CTKVR_CLOSED' });
    await expect(document.ask('Why?').next()).rejects.toMatchObject({ code: 'CTKVR_CLOSED' });
    await document.close();
  });

  it('refuses an empty text, unknown options, and options one level too high', async () => {
    const refused = (option: string, nearest?: string) => ({
      code: 'CTKVR_INVALID_OPTION',
      fields: { option, ...(nearest === undefined ? {} : { nearest }) },
    });
    await expect(model().readDocument(' \n')).rejects.toMatchObject(refused('text'));
    await expect(model().readDocument(fact, { context: 99 } as never)).rejects.toMatchObject(
      refused('context', 'contextLength'),
    );
    await using document = await model().readDocument(fact);
    await expect(document.ask('Why?', { temperature: 0 } as never).next()).rejects.toMatchObject(
      refused('temperature', 'sampling.temperature'),
    );
  });
});
