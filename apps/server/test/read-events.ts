/** Returns the data of each event of an SSE body, parsed; `[DONE]` stays a string. */
export async function readEvents(response: Response) {
  const text = await response.text();
  return text
    .split('\n\n')
    .flatMap((block) => block.match(/^data: (.*)$/m)?.[1] ?? [])
    .map((data) => (data === '[DONE]' ? data : JSON.parse(data)));
}
