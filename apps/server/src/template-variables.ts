/**
 * What a request may set of the chat template's variables. A variable that the template does not mention has no effect: asking for one is
 * refused, unless what is asked for is nothing.
 */
import { ApiError } from './api-error.js';
import type { AskedEffort, MessagesPrompt } from './generation-request.js';
import { shortened } from './shortened.js';

/** Switches of thinking: Qwen 3 and many others; DeepSeek and Granite. */
const switches = ['enable_thinking', 'thinking'] as const;

/** What a variable's name can be; clients send anything. */
const isName = /^[A-Za-z_]\w{0,63}$/;

/**
 * Returns the variables to render `template` (Jinja source) with.
 * @throws {ApiError} 400 naming the field whose variable the template does not have.
 */
export function templateVariables(
  template: string,
  { variables, effort }: Pick<MessagesPrompt, 'variables' | 'effort'>,
): Record<string, unknown> {
  const knows = (name: string) => isName.test(name) && new RegExp(`\\b${name}\\b`).test(template);
  for (const name of Object.keys(variables)) {
    const asksForNothing = (switches as readonly string[]).includes(name) && variables[name] === false;
    if (!knows(name) && !asksForNothing) {
      throw unknown(`chat_template_kwargs.${shortened(name)}`, "this model's chat template has no such variable");
    }
  }
  return { ...(effort === null ? {} : thinking(effort, knows)), ...variables };
}

/** Templates that only know on and off take every effort but `none` for on. */
function thinking({ level, field }: AskedEffort, knows: (name: string) => boolean): Record<string, unknown> {
  const isOn = level !== 'none';
  const known: Record<string, unknown> = {};
  for (const name of switches) if (knows(name)) known[name] = isOn;
  if (isOn && knows('reasoning_effort')) known.reasoning_effort = level;
  if (isOn && Object.keys(known).length === 0) {
    throw unknown(field, "this model's chat template cannot be told to think");
  }
  return known;
}

function unknown(param: string, why: string): ApiError {
  return new ApiError(400, `'${param}' cannot be honoured: ${why}. Leave it out.`, {
    param,
    code: 'unsupported_parameter',
  });
}
