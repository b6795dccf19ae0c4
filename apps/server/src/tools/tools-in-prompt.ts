/**
 * Shows a model the tools it may call. Chat templates that know tools have a variable for them. For the others the tools become text at the
 * beginning of the system message, in the words of Hermes and Qwen.
 */
import type { ChatMessage } from '../generation-request.js';
import { callFormatOf } from './call-format.js';
import { type ToolUse, toTemplateTool } from './tool-use.js';

/** Returns the variables and messages to render `template` (Jinja source) with. */
export function withTools(
  messages: readonly ChatMessage[],
  toolUse: ToolUse | null,
  template: string,
): { readonly messages: readonly ChatMessage[]; readonly variables: Readonly<Record<string, unknown>> } {
  if (toolUse === null) return { messages, variables: {} };
  const tools = toolUse.tools.map(toTemplateTool);
  if (callFormatOf(template).showsTools) return { messages, variables: { tools } };
  const text = toolsText(tools.map((tool) => JSON.stringify(tool)));
  const [first, ...rest] = messages;
  if (first?.role !== 'system') return { messages: [{ role: 'system', content: text }, ...messages], variables: {} };
  return { messages: [{ ...first, content: `${first.content}\n\n${text}` }, ...rest], variables: {} };
}

function toolsText(signatures: readonly string[]): string {
  return `# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
${signatures.join('\n')}
</tools>

For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:
<tool_call>
{"name": <function-name>, "arguments": <args-json-object>}
</tool_call>`;
}
