/** From what a protocol says of tools to what the engine is asked for. */
import { mustBe } from '../invalid-value.js';
import type { Tool, ToolUse } from './tool-use.js';

export interface AskedTools {
  readonly tools: readonly Tool[];
  /** Default: `auto`. */
  readonly choice: 'none' | 'auto' | 'required' | { readonly name: string } | undefined;
  /** Default: true. */
  readonly parallel: boolean | undefined;
}

/** Returns null where no tool may be called. @throws {ApiError} 400 for a name that is there twice, or a choice among no tools. */
export function toToolUse({ tools, choice = 'auto', parallel = true }: AskedTools): ToolUse | null {
  const names = tools.map(({ name }) => name);
  const twice = names.findIndex((name, index) => names.indexOf(name) < index);
  if (twice >= 0) throw mustBe(`tools[${twice}]`, 'of another name than the tools before it', names[twice]);
  if (typeof choice === 'object' && !names.includes(choice.name)) {
    throw mustBe('tool_choice', `one of the tools: ${names.join(', ') || 'there are none'}`, choice.name);
  }
  if (choice === 'required' && tools.length === 0) throw mustBe('tools', 'there with this tool_choice', undefined);
  if (choice === 'none' || tools.length === 0) return null;
  return { tools, choice, parallel, field: 'tools' };
}
