import type { Failure } from '../server/explain.js';
import { notice } from '../state/notice.js';

/** What went wrong last, until the reader has seen it. */
export function Notice() {
  return (
    <div role="alert" class="notice-area">
      {notice.value !== null && (
        <div class="failure">
          <FailureText failure={notice.value} />
          <button
            type="button"
            class="quiet"
            onClick={() => {
              notice.value = null;
            }}
          >
            Close
          </button>
        </div>
      )}
    </div>
  );
}

export function FailureText({ failure }: { failure: Failure }) {
  return (
    <p>
      <strong>{failure.what}</strong> {failure.remedy}
    </p>
  );
}
