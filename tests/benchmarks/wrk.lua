-- Prints what wrk measured as one line of JSON.
done = function(summary, latency, requests)
   local errors = summary.errors
   io.write(string.format(
      '\n{"requests": %d, "seconds": %.6f, "mean_ms": %.3f, '
      .. '"median_ms": %.3f, "p99_ms": %.3f, "status": %d, "socket": %d}\n',
      summary.requests, summary.duration / 1e6, latency.mean / 1e3,
      latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
      errors.status, errors.connect + errors.read + errors.write + errors.timeout
   ))
end
