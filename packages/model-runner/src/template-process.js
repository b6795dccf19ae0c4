/**
 * The process that renders chat templates for a model (template-renderer.ts has its other end). A template is a program by whoever made the
 * model file: it may loop for ever, fill memory, or write without end. Here it can do so without harm to the program.
 *
 * JavaScript, so that Node runs this file where it is, in the sources and beside the built package.
 */
import vm from 'node:vm';
import { Template } from '@huggingface/jinja';

/** @typedef {import('./template-renderer.js').RenderRequest} RenderRequest */
/** @typedef {import('./template-renderer.js').RenderAnswer} RenderAnswer */

/** A model has one template: the last one parsed is the one asked for next. @type {{ source: string, template: Template } | null} */
let last = null;

process.on('message', (/** @type {RenderRequest} */ request) => {
  process.send?.(answer(request));
});
process.on('disconnect', () => process.exit());
// A terminal sends these to the whole group; what is to end is the parent's decision.
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => {});

/** @param {RenderRequest} request @returns {RenderAnswer} */
function answer({ source, views, limits }) {
  try {
    return withinTime(limits.timeMs, () => render(source, views, limits.outputLength));
  } catch (error) {
    const code = /** @type {{ code?: unknown } | null} */ (error)?.code;
    if (code === 'ERR_SCRIPT_EXECUTION_TIMEOUT') return { limit: 'time' };
    return { failure: 'refused the messages', reason: messageOf(error) };
  }
}

/** @param {string} source @param {RenderRequest['views']} views @param {number} outputLength @returns {RenderAnswer} */
function render(source, views, outputLength) {
  if (last?.source !== source) {
    try {
      last = { source, template: new Template(source) };
    } catch (error) {
      return { failure: 'cannot be parsed', reason: messageOf(error) };
    }
  }
  /** @type {string[]} */
  const texts = [];
  let length = 0;
  for (const view of views) {
    const text = last.template.render(view);
    length += text.length;
    if (length > outputLength) return { limit: 'output' };
    texts.push(text);
  }
  return { texts };
}

/**
 * Runs `work`, and ends it wherever it is when the time is over: V8 stops code that was entered through a script with a limit.
 * @template T @param {number} timeMs @param {() => T} work @returns {T}
 */
function withinTime(timeMs, work) {
  Object.assign(globalThis, { ctkvrWork: work });
  return vm.runInThisContext('ctkvrWork()', { timeout: timeMs });
}

/** @param {unknown} error */
function messageOf(error) {
  return error instanceof Error ? error.message : String(error);
}
