import { spawnSync } from 'node:child_process';
import { afterAll, describe, expect, it } from 'vitest';
import { TemplateRenderer } from './template-renderer.js';

const renderer = new TemplateRenderer();
afterAll(() => renderer.close());

/** With one view; 1,000 characters allowed. */
const render = (source: string, view: Record<string, unknown> = {}, signal?: AbortSignal) =>
  renderer.render({ source, views: [view], outputLength: 1000 }, signal);

describe('TemplateRenderer', () => {
  it('renders every view, and what is asked for meanwhile in turn', async () => {
    const views = [{ name: 'Ann' }, { name: 'Bob' }];
    expect(await renderer.render({ source: 'Hi {{ name }}', views, outputLength: 100 })).toEqual(['Hi Ann', 'Hi Bob']);
    const answers = await Promise.all(['{{ 1 }}', '{{ 2 }}', '{{ 1 + 2 }}'].map((source) => render(source)));
    expect(answers).toEqual([['1'], ['2'], ['3']]);
  });

  it('may be as long as the limit, no longer', async () => {
    expect(await render('{% for i in range(1000) %}x{% endfor %}')).toEqual(['x'.repeat(1000)]);
    await expect(render('{% for i in range(1001) %}x{% endfor %}')).rejects.toMatchObject({
      code: 'CTKVR_INVALID_OPTION',
      message: expect.stringContaining('more than 1000 characters'),
      fields: { option: 'chatTemplate', limit: 'output' },
    });
  });

  it.each([
    ['a list that fills memory', '{% for i in range(1000000000) %}x{% endfor %}', /memory|took/],
    [
      'a list that doubles',
      '{% set ns = namespace(l=[1]) %}{% for i in range(60) %}{% set ns.l = ns.l + ns.l %}{% endfor %}',
      /./,
    ],
    [
      'text that doubles',
      '{% set ns = namespace(x="ab") %}{% for i in range(100) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x | upper }}',
      /./,
    ],
  ])('%s ends in an error, and the next template is rendered', async (_name, source, limit) => {
    await expect(render(source)).rejects.toMatchObject({
      code: 'CTKVR_INVALID_OPTION',
      fields: { option: 'chatTemplate', reason: expect.stringMatching(limit) },
    });
    expect(await render('fine')).toEqual(['fine']);
  });

  it('loops without end are stopped', async () => {
    const loops = '{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}';
    await expect(render(loops)).rejects.toMatchObject({
      code: 'CTKVR_INVALID_OPTION',
      fields: { option: 'chatTemplate', limit: 'time' },
    });
  });

  it('an abort ends a loop at once; the caller stays free meanwhile', async () => {
    const controller = new AbortController();
    const loops = '{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}';
    let ticks = 0;
    const ticking = setInterval(() => {
      ticks += 1;
      if (ticks === 5) controller.abort(new Error('enough'));
    }, 10);
    const stopped = render(loops, {}, controller.signal).finally(() => clearInterval(ticking));
    await expect(stopped).rejects.toMatchObject({ name: 'AbortError', code: 'CTKVR_ABORTED' });
    expect(ticks).toBe(5);
    await expect(render('x', {}, AbortSignal.abort())).rejects.toMatchObject({ code: 'CTKVR_ABORTED' });
    expect(await render('fine')).toEqual(['fine']);
  });

  it('what cannot leave the process is refused by name', async () => {
    await expect(render('x', { messages: [{ content: () => 1 }] })).rejects.toMatchObject({
      code: 'CTKVR_INVALID_OPTION',
      fields: { option: 'messages' },
    });
  });

  it('a closed one refuses, and ends what it renders', async () => {
    const own = new TemplateRenderer();
    const source = '{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}';
    const running = own.render({ source, views: [{}], outputLength: 10 });
    setTimeout(() => own.close(), 50);
    await expect(running).rejects.toMatchObject({ code: 'CTKVR_CLOSED' });
    await expect(own.render({ source: 'x', views: [{}], outputLength: 10 })).rejects.toMatchObject({
      code: 'CTKVR_CLOSED',
    });
  });

  it('a program that has nothing else to do ends', () => {
    const entry = new URL('./template-process.js', import.meta.url);
    // As TemplateRenderer starts it; Node runs no TypeScript.
    const code = `import { fork } from 'node:child_process';
      const child = fork(${JSON.stringify(entry.pathname)}, [], { stdio: ['ignore', 'ignore', 'ignore', 'ipc'] });
      child.unref(); child.channel.unref();`;
    const { status, signal } = spawnSync(process.execPath, ['--input-type=module', '-e', code], { timeout: 20_000 });
    expect({ status, signal }).toEqual({ status: 0, signal: null });
  });
});
