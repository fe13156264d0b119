//! Asking for a blob, or for the rest of one: which answers are what was asked for.

use http::{HeaderMap, HeaderValue, Method, header};

use super::{Blob, Source};
use crate::{
    client::{content_range::ContentRange, endpoint, is_html},
    error::{Missing, RexError},
    transport::{Answer, Protocol, Request},
};

impl Blob {
    /// Asks for everything from the position on, and makes sure that this is what comes.
    pub(super) async fn open(&mut self) -> Result<(), RexError> {
        let first_time = self.media_type.is_empty();
        let range = match self.stop() {
            Some(end) => Some(format!("bytes={}-{}", self.position, end.saturating_sub(1))),
            None if self.position > 0 => Some(format!("bytes={}-", self.position)),
            None => None,
        };
        let answer = self.request(Method::GET, range.as_deref()).await?;
        // No registry calls a blob HTML, and of a part no digest would tell: refused before anything is handed out.
        if answer.status().is_success() && is_html(&answer) {
            return Err(answer.invalid("a blob was asked for and text/html came"));
        }
        match answer.status().as_u16() {
            206 => self.take_part(answer),
            200..=299 => self.take_all(answer, first_time),
            416 if first_time => self.past_the_end(answer).await,
            _ => Err(answer.rejection().await.into_error(Missing::Blob, self.digest.as_str())),
        }
    }

    async fn request(&self, method: Method, range: Option<&str>) -> Result<Answer, RexError> {
        let mut headers = HeaderMap::new();
        if let Some(range) = range {
            let value = HeaderValue::try_from(range).map_err(|_| self.invalid("no range".to_owned()))?;
            headers.insert(header::RANGE, value);
        }
        let url = endpoint::blob(&self.upstream.base(), &self.target.repository, &self.digest);
        let (scope, protocol, deadline) = (&self.scope, Protocol::Http1, self.deadline);
        self.upstream.send(&Request { method, url, scope, headers, protocol, deadline }).await
    }

    /// 206: only with a `Content-Range` that begins where it was asked to, of a blob of the same size.
    fn take_part(&mut self, answer: Answer) -> Result<(), RexError> {
        let range = answer.header(header::CONTENT_RANGE).and_then(ContentRange::parse);
        let Some(ContentRange { bytes: Some((first, last)), size }) = range else {
            return Err(answer.invalid("a 206 without a valid Content-Range"));
        };
        if first != self.position || self.stop().is_some_and(|stop| last >= stop) {
            let asked = self.position;
            return Err(
                answer.invalid(format!("bytes from {asked} were asked for, and bytes {first}-{last} came"))
            );
        }
        self.learn(&answer, size)?;
        if self.size.is_none() {
            // Where the part ends is then all that is known, so it must end where it was asked to.
            if self.wanted() != Some(last.saturating_add(1)) {
                return Err(answer.invalid("a 206 that tells neither the blob's size nor the end asked for"));
            }
            self.end = self.wanted();
        }
        self.settle_end();
        self.source = Source::Open { body: Box::new(answer.into_body()?), skip: 0 };
        Ok(())
    }

    /// 200: the whole blob. What comes before the position is skipped; a resumed read allows that once.
    fn take_all(&mut self, answer: Answer, first_time: bool) -> Result<(), RexError> {
        let size = answer.header(header::CONTENT_LENGTH).and_then(|length| length.parse().ok());
        self.learn(&answer, size)?;
        if !first_time && self.position > 0 && std::mem::replace(&mut self.repeated, true) {
            return Err(answer.invalid("it ignores ranges, and the connection broke more than once"));
        }
        if let Some(size) = self.size.filter(|size| self.position > *size) {
            return Err(RexError::Range { at: answer.at(), offset: self.position, size: Some(size) });
        }
        self.settle_end();
        self.source = Source::Open { body: Box::new(answer.into_body()?), skip: self.position };
        Ok(())
    }

    /// 416: fine when the offset is the blob's size, and OUT_OF_RANGE when it is past it.
    async fn past_the_end(&mut self, answer: Answer) -> Result<(), RexError> {
        let range = answer.header(header::CONTENT_RANGE).and_then(ContentRange::parse);
        let at = answer.at();
        // Its place among the registry's requests is the next request's.
        drop(answer);
        let size = match range.and_then(|range| range.size) {
            Some(size) => Some(size),
            None => {
                let head = self.request(Method::HEAD, None).await?;
                let length = head.header(header::CONTENT_LENGTH).and_then(|length| length.parse().ok());
                length.filter(|_| head.status().is_success())
            }
        };
        if size != Some(self.position) {
            return Err(RexError::Range { at, offset: self.position, size });
        }
        self.size = size;
        self.media_type = "application/octet-stream".to_owned();
        self.settle_end();
        self.source = Source::Finished;
        Ok(())
    }

    /// Takes what an answer tells of the blob; every answer must tell the same.
    fn learn(&mut self, answer: &Answer, size: Option<u64>) -> Result<(), RexError> {
        if let (Some(known), Some(told)) = (self.size, size)
            && known != told
        {
            let problem = format!("{} had {known} bytes, and now has {told}", self.digest);
            return Err(RexError::Integrity { at: answer.at(), problem });
        }
        self.size = self.size.or(size);
        let accepts =
            answer.header(header::ACCEPT_RANGES).is_some_and(|unit| unit.eq_ignore_ascii_case("bytes"));
        self.ranges |= accepts || answer.status().as_u16() == 206;
        if self.media_type.is_empty() {
            self.media_type = answer.content_type().unwrap_or_else(|| "application/octet-stream".to_owned());
        }
        Ok(())
    }

    fn settle_end(&mut self) {
        if let Some(size) = self.size {
            self.end = Some(self.wanted().map_or(size, |wanted| wanted.min(size)));
        }
    }
}
