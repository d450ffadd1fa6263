//! What a subject makes of one setting.

/// Whether a subject has a feature, and whether the service can configure it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Setting<T> {
    /// The subject does not have the feature.
    #[default]
    Unsupported,
    /// The subject has the feature, always with this value.
    Fixed(T),
    /// The subject has the feature, with the value that the [`Service`](crate::rules::Service) asks for.
    Configurable,
}

impl<T> Setting<T> {
    /// Whether the subject has the feature at all.
    #[must_use]
    pub fn is_supported(&self) -> bool {
        !matches!(self, Setting::Unsupported)
    }

    /// Whether the service can choose the value.
    #[must_use]
    pub fn is_configurable(&self) -> bool {
        matches!(self, Setting::Configurable)
    }

    /// Replaces the value that was asked for by the fixed value, if there is one.
    #[cfg(feature = "conformance")]
    pub(super) fn fit(&self, asked: &mut T)
    where
        T: Clone,
    {
        if let Setting::Fixed(value) = self {
            *asked = value.clone();
        }
    }
}
